"""Build the scalar head of a reward model.

A reward model is a ``...ForSequenceClassification`` model of transformers with one label. Its only output is a score,
read at the last token of a conversation.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from xft.errors import ModelError
from xft.models.model_options import transformers_config, without_adapter
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

ModelKind = Literal["causal_lm", "reward_model", "vision_language"]
LOADERS: dict[ModelKind, Any] = {
    "causal_lm": AutoModelForCausalLM,
    "reward_model": AutoModelForSequenceClassification,
    "vision_language": AutoModelForImageTextToText,
}
CLASSES: dict[ModelKind, Any] = {
    "causal_lm": MODEL_FOR_CAUSAL_LM_MAPPING,
    "reward_model": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "vision_language": MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
}
"""Mapping of transformers from the type of a config to the model class, by kind."""
_CLASS = "ForSequenceClassification"
HEAD = "score"
"""Name of the head in these classes."""


class ScoreHead(nn.Linear):
    """The head of a reward model, computed in fp32 independently of model dtype and autocast.

    In bf16 a score has eight significant bits, and different answers would get equal scores.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., hidden)`` to ``(..., 1)`` in fp32 (fp64 for a model in fp64)."""
        wide = torch.promote_types(input.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(wide)
        with torch.autocast(input.device.type, enabled=False):
            return linear(input.to(wide), self.weight.to(wide), bias)


def model_kind_of(config: PretrainedConfig) -> ModelKind:
    """Return the kind of a model by its transformers config."""
    classes = [str(name) for name in config.architectures or []]
    if any(name.endswith(_CLASS) for name in classes):
        return "reward_model"
    vision = CLASSES["vision_language"].get(type(config), None)
    return "vision_language" if vision is not None and vision.__name__ in classes else "causal_lm"


def check_kind(path: str, config: PretrainedConfig, kind: ModelKind) -> None:
    """Refuse to load a model as a kind whose weights it lacks or that would drop some of its weights.

    Args:
        path: path of the model, for the message.
        config: transformers config of the model.
        kind: requested kind.

    Raises:
        ModelError: the folder holds another kind, or transformers has no class for it.
    """
    held = model_kind_of(config)
    if held == "reward_model" and kind == "causal_lm":
        raise ModelError(
            f"model.path: {path} is a reward model, whose head gives scores and no tokens; "
            "set model.type='reward_model', or name a language model"
        )
    if held == "reward_model" and config.num_labels != 1:
        raise ModelError(
            f"model.path: {path} sorts into {config.num_labels} labels, expected a reward model, which gives one score"
        )
    if kind == "vision_language" and held != kind:
        raise ModelError(
            key="model.path",
            got=f"{path}, a {held.replace('_', ' ')} ({config.model_type})",
            expected="a vision-language model that transformers knows",
            fix=f"set model.type={held!r}",
        )
    if kind == "causal_lm" and held == "vision_language" and type(config) not in CLASSES[kind]:
        raise ModelError(
            key="model.path",
            got=f"{path}, a vision-language model ({config.model_type})",
            expected="a language model",
            fix="set model.type='vision_language', which trains its language model on rows without images too",
        )
    if kind == "reward_model" and type(config) not in CLASSES[kind] and not hasattr(config, "auto_map"):
        raise ModelError(
            f"model.path: transformers has no class with a scalar head for {config.model_type!r} ({path}), so "
            "nothing could load the reward model; choose another architecture"
        )


def is_reward_model(model: nn.Module) -> bool:
    """Return whether a model, with or without an adapter, is a reward model."""
    return type(without_adapter(model)).__name__.endswith(_CLASS)


def attach_score_head(model: nn.Module, path: str) -> None:
    """Replace the linear head of a loaded model by a :class:`ScoreHead` with the same weights.

    Args:
        model: transformers model without an adapter.
        path: path of the model, for the message.

    Raises:
        ModelError: the model has no such head.
    """
    head = dict(model.named_children()).get(HEAD)
    if type(head) is not nn.Linear or head.out_features != 1:
        raise ModelError(
            f"model.path: {path} becomes a {type(model).__name__}, which has no layer 'score' with one output "
            "after a decoder; expected a decoder such as Llama, Qwen or Mistral"
        )
    scalar = ScoreHead(head.in_features, 1, bias=head.bias is not None, device="meta")
    scalar.weight, scalar.bias = head.weight, head.bias
    model.score = scalar


def upcast_head(model: nn.Module) -> None:
    """Convert the head of a reward model to fp32, like all trainable parameters on a frozen base."""
    if is_reward_model(model):
        inner = model
        inner.score.float()


def set_pad_token(model: nn.Module, tokenizer: Tokenizer, template: BoundTemplate | None) -> None:
    """Set a padding token that ends no conversation, in model and tokenizer.

    transformers reads the score of a padded row at the last token that is not the padding token.
    If answers end with that token (many tokenizers pad with the end-of-turn token), it would read one token too
    early; another special token becomes the padding token.

    Raises:
        ModelError: the tokenizer has no other special token.
    """
    if template is not None:
        text = template.render([Message("user", "a"), Message("assistant", "b")])
        last = tokenizer(text, add_special_tokens=False)["input_ids"][-1]
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id == last:
            tokenizer.pad_token = _other_special(tokenizer, last)
    transformers_config(model).get_text_config().pad_token_id = tokenizer.pad_token_id


def _other_special(tokenizer: Tokenizer, last: int) -> str:
    preferred = (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token)
    for token in (*preferred, *tokenizer.all_special_tokens):
        if token and tokenizer.convert_tokens_to_ids(token) != last:
            return token
    raise ModelError(
        "tokenizer: its only special token ends every answer, so rows of several lengths cannot be padded for "
        "a reward model; add one with model.additional_special_tokens=['<pad>']"
    )
