"""Adapters and quantization of XTuner."""

from xft.migration.arguments import Arguments
from xft.migration.values import count, label, names, number, switch


def import_quantization(llm: Arguments) -> None:
    """Take over the quantization of a model."""
    draft, options = llm.draft, llm.section("quantization_config")
    if not options.unread:
        return
    bits8, key4 = options.is_on("load_in_8bit"), options.full_name("load_in_4bit")
    bits4 = options.is_on("load_in_4bit")
    if bits8:
        draft.take(options.full_name("load_in_8bit"), "quantization.type", "int8")
    elif bits4:
        draft.take(key4, "quantization.type", "nf4")
        key = options.full_name("bnb_4bit_use_double_quant")
        if options.take("quantization.double_quant", switch, "bnb_4bit_use_double_quant") is None:
            draft.default(key, "quantization.double_quant", False)
    kind = options.read(label, "bnb_4bit_quant_type")
    if kind is not None:
        record = draft.change if kind == "fp4" and bits4 else draft.note
        record(options.full_name("bnb_4bit_quant_type"), "nf4, which is used for 4 bits")


def import_lora(model: Arguments, name: str = "lora") -> None:
    """Take over the adapter of a model, which may have none.

    Args:
        model: section of the model.
        name: key of the adapter in it.
    """
    draft = model.draft
    if name not in model:
        draft.note(model.full_name(name), "adapter = None")
        draft.set("adapter", None)
        return
    lora = model.section(name)
    draft.set("adapter", {"type": "lora"})
    lora.take("adapter.r", count, "r")
    lora.take("adapter.lora_alpha", count, "lora_alpha")
    lora.take("adapter.lora_dropout", number, "lora_dropout")
    for key, value in (("r", 8), ("lora_alpha", 8), ("lora_dropout", 0.0)):
        draft.default(lora.full_name(key), f"adapter.{key}", value)
    lora.take("adapter.target_modules", _layers, "target_modules")
    draft.default(lora.full_name("target_modules"), "adapter.target_modules", "all-linear")
    lora.take("adapter.modules_to_save", names, "modules_to_save")
    lora.take("adapter.use_rslora", switch, "use_rslora")
    lora.take("adapter.use_dora", switch, "use_dora")
    bias = lora.read(label, "bias")
    if bias not in (None, "none"):
        draft.miss(lora.full_name("bias"), "biases are not trained")
    elif bias is not None:
        draft.note(lora.full_name("bias"), "biases are not trained")


def _layers(value: object) -> str | list[str]:
    return value if isinstance(value, str) else names(value)
