"""Join a language model, a vision encoder and a new projector: ``model=dict(type="llava", ...)``.

The result is a ``LlavaForConditionalGeneration`` of transformers (LLaVA 1.5, Liu et al. 2023,
https://arxiv.org/abs/2310.03744); with a convolutional encoder a ``FastVlmForConditionalGeneration``, which is a LLaVA that
reads a map of features. It is written once, into a folder of the user's cache, and used like any other model.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import transformers
from annotated_types import Interval
from torch import Tensor, nn
from transformers import (
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from xft.errors import ModelError
from xft.models.hub import resolve_path
from xft.models.loading import load_config, load_tokenizer, load_weights
from xft.models.model_source import MERGE_FIRST, ModelSource, resolve_model_source
from xft.models.reward_head import ModelKind
from xft.models.vision.encoder import Features, load_encoder, measure_features
from xft.models.vision.vision_config import VisionLanguageConfig
from xft.registry import register
from xft.templates.image_parts import with_image_parts
from xft.templates.jinja_env import special_tokens_of
from xft.types import Tokenizer
from xft.utils import console, paths
from xft.utils.temporary_folder import create_once

_IMAGE_TOKEN = "<image>"
_SCALE = 8.0
"""Smallest root mean square of the projector's output, relative to that of the embeddings."""
_TOLERANCE = 1e-2
"""Largest difference of two equal computations, relative to the norm of the logits."""
JoinedModel = LlavaForConditionalGeneration | FastVlmForConditionalGeneration
_CLASSES: dict[type[PreTrainedConfig], Any] = {
    LlavaConfig: LlavaForConditionalGeneration,
    FastVlmConfig: FastVlmForConditionalGeneration,
}
_LANGUAGE: ModelKind = "causal_lm"


@register("model", "llava")
@dataclass
class LlavaPartsConfig(VisionLanguageConfig):
    """A new vision-language model: a language model that sees images through a vision encoder and a new projector.

    Train the projector first, on captions; then name the run as ``path`` of a ``vision_language`` model and train the
    language model. Further arguments are those of :class:`~xft.models.vision.vision_config.VisionLanguageConfig`.

    Args:
        path: language model: a folder, a run folder of a fully trained model, or a name.
        vision: vision encoder, such as CLIP, SigLIP or a convolutional network: a folder or ``owner/name``.
        vision_feature_layer: layer of the encoder that the projector reads; -2 is the last but one. Of a convolutional
            network, it reads the last one.
        vision_feature_select_strategy: ``default`` leaves out the class token, if the encoder has one; ``full`` keeps
            it.
    """

    vision: str = field(kw_only=True)
    vision_feature_layer: Annotated[int, Interval(ge=-1000, le=1000)] = -2
    vision_feature_select_strategy: Literal["default", "full"] = "default"

    def resolve_source(self) -> ModelSource:
        """Return the folder of the joined model; the first call creates it.

        Raises:
            ModelError: a part cannot be loaded, or transformers cannot join them.
        """
        language = resolve_model_source(self.path, _LANGUAGE)
        if language.adapter is not None:
            raise ModelError(
                key="model.path", got=f"{self.path}, an adapter", expected="a whole model", fix=MERGE_FIRST
            )
        folder = str(self._join(language.base))
        return ModelSource(folder, tokenizer=folder)

    def _join(self, language: str) -> Path:
        """Return the folder with the joined model in the cache."""
        key = [self._identity(language), self._identity(self.vision), transformers.__version__]
        key += [str(self.vision_feature_layer), self.vision_feature_select_strategy]
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
        folder = paths.cache_dir() / "joined_models" / name
        if (folder / "config.json").is_file():
            return folder
        console.info(f"joining {self.path} and {self.vision} in {folder} (once)")
        create_once(folder, "config.json", lambda partial: self._write(language, partial))
        return folder

    def _identity(self, path: str) -> str:
        """Return a text that changes with the files of a part: names, sizes and times, or the commit of the hub."""
        source = resolve_path(path)
        if not Path(source).is_dir():
            config = load_config(path, self.trust_remote_code)
            return f"{path} {config._commit_hash}"
        files = sorted(file for file in Path(source).iterdir() if file.is_file())
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return json.dumps([str(Path(source).resolve()), stats])

    def _write(self, language: str, folder: Path) -> None:
        model = load_weights(
            language,
            "auto",
            "sdpa",
            trust_remote_code=self.trust_remote_code,
            kind=_LANGUAGE,
        )
        tokenizer = load_tokenizer(self.tokenizer or language, self.trust_remote_code)
        image_token = _add_image_token(model, tokenizer)
        tower, images = load_encoder(self.vision, self.trust_remote_code)
        features = measure_features(tower, images, self.vision)
        joined = self._build(model, tower, features, image_token)
        joined.save_pretrained(folder)
        processor = LlavaProcessor(
            images,
            tokenizer,
            patch_size=features.patch_size,
            vision_feature_select_strategy=joined.config.vision_feature_select_strategy,
            image_token=_IMAGE_TOKEN,
            num_additional_image_tokens=features.num_extra,
        )
        processor.save_pretrained(folder)

    def _build(
        self, model: PreTrainedModel, tower: PreTrainedModel, features: Features, image_token: int
    ) -> JoinedModel:
        strategy = self.vision_feature_select_strategy if features.num_extra else "full"
        config_class = FastVlmConfig if features.is_map else LlavaConfig
        config = config_class(
            vision_config=tower.config,
            text_config=model.config,
            image_token_index=image_token,
            vision_feature_layer=-1 if features.is_map else self.vision_feature_layer,
            vision_feature_select_strategy=strategy,
            image_seq_length=len(features.states) - (strategy == "default"),
            tie_word_embeddings=model.config.tie_word_embeddings,
            dtype=model.dtype,
        )
        return _join_modules(config, model, tower, features, self.path)


def _add_image_token(model: PreTrainedModel, tokenizer: Tokenizer) -> int:
    """Add the image token to a tokenizer, and its row to the embeddings.

    The row is the mean of the others. It is never an input, since features of an image take its place, nor a target.
    A mean row in the head changes each probability by a factor of at least ``1 - 1 / rows`` (Jensen's inequality).
    """
    known: Any = tokenizer
    known.add_special_tokens({"additional_special_tokens": [_IMAGE_TOKEN]})
    number = int(known.convert_tokens_to_ids(_IMAGE_TOKEN))
    if isinstance(known.chat_template, str):
        specials = special_tokens_of(tokenizer)
        known.chat_template = with_image_parts(known.chat_template, f"{_IMAGE_TOKEN}\n", specials)
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if number >= rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for module in {model.get_input_embeddings(), model.get_output_embeddings()}:
            with torch.no_grad():
                module.weight[rows:] = module.weight[:rows].float().mean(dim=0)
    return number


def _join_modules(
    config: LlavaConfig | FastVlmConfig, model: Any, tower: PreTrainedModel, features: Features, path: str
) -> JoinedModel:
    """Return a model of the parts and a new projector, which is drawn from a fixed seed.

    Raises:
        ModelError: the joined model computes other logits for a text than the language model.
    """
    with torch.device("meta"):
        joined: Any = _CLASSES[type(config)](config)
    decoder, head = model.base_model, model.get_output_embeddings()
    problem = ""
    if (
        type(decoder) is not type(joined.model.language_model)
        or type(head) is not nn.Linear
        or head.bias is not None
    ):
        problem = "a decoder or a head that it does not contain"
    else:
        joined.model.language_model, joined.lm_head = decoder, head
        joined.model.vision_tower = tower
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            projector = type(joined.model.multi_modal_projector)(config)
        _scale_projector(projector, features.states.float(), model.get_input_embeddings().weight.float())
        joined.model.multi_modal_projector = projector.to(model.dtype)
        joined.generation_config = model.generation_config
        ids = torch.arange(0, head.out_features, max(1, head.out_features // 8))[None]
        with torch.no_grad():
            expected, actual = model.eval()(input_ids=ids).logits, joined.eval()(input_ids=ids).logits
        if (actual - expected).norm() > _TOLERANCE * expected.norm():
            problem = "logits that it does not compute, such as scaled ones"
    if problem:
        raise ModelError(
            key="model.path",
            got=f"{path} ({model.config.model_type})",
            expected=f"a language model for {type(joined).__name__}; this one has {problem}",
        )
    result: JoinedModel = joined
    return result


def _scale_projector(projector: nn.Module, states: Tensor, embeddings: Tensor) -> None:
    """Enlarge the output of a new projector to some times the size of the embeddings, if it is smaller.

    Measured with SmolLM2-135M: image tokens as small as those of texts are learned slower.
    """
    with torch.no_grad():
        ratio = _SCALE * embeddings.square().mean().sqrt() / projector(states).square().mean().sqrt()
        for param in projector.linear_2.parameters():  # type: ignore[union-attr]
            param.mul_(ratio.clamp(min=1))
