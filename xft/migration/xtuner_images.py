"""LLaVA models of XTuner: a language model, a vision encoder and a projector, trained in two stages."""

import re

from xft.migration.arguments import Arguments
from xft.migration.values import switch, text, whole
from xft.migration.xtuner_adapter import import_lora

LLAVA = "LLaVAModel"
_STAGE_1 = "runs/llava_pretrain"
_NAME = "pretrained_model_name_or_path"
_ADAPTERS = ("llm_lora", "visual_encoder_lora")
_SIZES = re.compile(r"patch(\d+)-(\d+)$")


def import_parts(model: Arguments, llm: Arguments) -> None:
    """Take over the parts of a LLaVA model, and how each is trained.

    Args:
        model: section of the model.
        llm: section of its language model.

    Raises:
        ConfigError: the vision encoder has no name.
    """
    draft, encoder = model.draft, model.section("visual_encoder")
    layer = model.full_name("visual_select_layer")
    if model.pop("pretrained_pth") is not None:
        draft.set("model.type", "vision_language")
        how = f"train stage 1 with xft, and name its run: model.path = {_STAGE_1!r}; set it"
        draft.change(model.full_name("pretrained_pth"), how, "model.path", _STAGE_1)
        for section in (llm, encoder):
            section.note("that of stage 1", _NAME)
        model.note("that of stage 1", "visual_select_layer", "projector_depth")
    else:
        draft.set("model.type", "llava")
        llm.take("model.path", text, _NAME)
        if encoder.take("model.vision", text, _NAME) is None:
            draft.refuse(encoder.full_name(_NAME), None, "the name of a vision encoder")
        model.take("model.vision_feature_layer", whole, "visual_select_layer")
        draft.default(layer, "model.vision_feature_layer", -2)
        model.change("the projector has two layers", "projector_depth")
    draft.set("model.train.projector", "full")
    modes = {}
    for part, name, key in (("language", "llm", "freeze_llm"), ("vision", "visual_encoder", "freeze_visual_encoder")):  # fmt: skip
        is_frozen = model.read(switch, key)
        modes[part] = "lora" if f"{name}_lora" in model else "frozen" if is_frozen else "full"
        if part == "vision" and modes == {"language": "full", "vision": "lora"}:
            modes[part] = "full"  # A full model has no adapter.
        draft.take(model.full_name(key), f"model.train.{part}", modes[part])
    has_lora = modes["language"] == "lora"
    import_lora(model, _ADAPTERS[0] if has_lora or modes["vision"] != "lora" else _ADAPTERS[1])
    adapter = model.section(_ADAPTERS[1])
    how = "the adapter of the language model" if has_lora else "no adapter: all of its weights are trained"
    adapter.change(f"the vision tower has {how}", *adapter.unread)
    if "lora" not in modes.values():
        options = llm.section("quantization_config")
        options.change("not quantized: only an adapter is trained on quantized weights", *options.unread)
    encoder.note("as its files say", *encoder.unread)


def read_images(part: Arguments) -> tuple[dict[str, str], int]:
    """Take over what a dataset says of its images.

    Returns:
        Keys of the data section, and the number of tokens of an image that the length leaves out.
    """
    draft, key = part.draft, part.full_name("image_folder")
    folder = part.read(text, "image_folder")
    processor = part.section("image_processor")
    encoder = processor.read(text, _NAME)
    if encoder is not None:
        draft.note(processor.full_name(_NAME), "that of the encoder")
    processor.note("that of the encoder", *processor.unread)
    part.change("the image processor of the encoder scales and crops", "pad_image_to_square")
    sizes = _SIZES.search(encoder or "")
    tokens = (int(sizes[2]) // int(sizes[1])) ** 2 if sizes else 0
    if folder is None:
        return {}, tokens
    draft.note(key, f"data.image_folder = {folder!r}")
    return {"image_folder": folder}, tokens
