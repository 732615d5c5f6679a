"""Scalar heads: what makes a decoder a reward model.

A reward model is the class that transformers calls ``...ForSequenceClassification``, with one label:
its only output is a score, read at the last token of a conversation.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from xft.errors import ModelError
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer

ModelKind = Literal["causal_lm", "reward_model"]
LOADERS: dict[ModelKind, Any] = {
    "causal_lm": AutoModelForCausalLM,
    "reward_model": AutoModelForSequenceClassification,
}
CLASSES: dict[ModelKind, Any] = {
    "causal_lm": MODEL_FOR_CAUSAL_LM_MAPPING,
    "reward_model": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}
"""The class of each kind that transformers has for a config."""
_CLASS = "ForSequenceClassification"


class ScoreHead(nn.Linear):
    """The head of a reward model. Its product is taken in fp32, whatever the types of the model and
    of autocast: in bf16 a score has eight bits, and answers that differ would be equal."""

    def forward(self, input: Tensor) -> Tensor:
        """``(..., hidden)`` to ``(..., 1)``, in fp32 (fp64 for a model in fp64)."""
        wide = torch.promote_types(input.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(wide)
        with torch.autocast(input.device.type, enabled=False):
            return linear(input.to(wide), self.weight.to(wide), bias)


def model_kind_of(config: Any) -> ModelKind:
    """What a config of transformers says that a folder holds."""
    classes = getattr(config, "architectures", None) or []
    return "reward_model" if any(str(each).endswith(_CLASS) for each in classes) else "causal_lm"


def check_kind(path: str, config: Any, kind: ModelKind) -> None:
    """Refuse what would be loaded with weights left out, or made up.

    Args:
        path: of the model, for the message.
        config: of transformers.
        kind: what the model is wanted as.

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
    if kind == "reward_model" and type(config) not in CLASSES[kind] and not hasattr(config, "auto_map"):
        raise ModelError(
            f"model.path: transformers has no class with a scalar head for {config.model_type!r} ({path}), so "
            "nothing could load the reward model; choose another architecture"
        )


def is_reward_model(model: nn.Module) -> bool:
    """Whether a model, with or without an adapter, gives scores."""
    inner: Any = model
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return type(base).__name__.endswith(_CLASS)


def attach_score_head(model: nn.Module, path: str, missing: Iterable[str]) -> None:
    """Put a :class:`ScalarHead` around the weights of the head that a model was loaded with.

    Args:
        model: of transformers, without an adapter.
        path: of the model, for the message.
        missing: weights that were not in the folder, and so are new. Those of the head may be.

    Raises:
        ModelError: it has no head of that kind, or other weights are missing.
    """
    if lost := [each for each in missing if not each.startswith("score.")]:
        raise ModelError(f"model.path: {path} lacks {len(lost)} weights, such as {lost[0]!r}")
    head = getattr(model, "score", None)
    if type(head) is not nn.Linear or head.out_features != 1:
        raise ModelError(
            f"model.path: {path} becomes a {type(model).__name__}, which has no layer 'score' with one output "
            "behind a decoder; expected a decoder such as Llama, Qwen or Mistral"
        )
    scalar = ScoreHead(head.in_features, 1, bias=head.bias is not None, device="meta")
    scalar.weight, scalar.bias = head.weight, head.bias
    model.score = scalar


def upcast_head(model: nn.Module) -> None:
    """Hold the head of a reward model in fp32, as all is held that is trained beside a frozen base."""
    if is_reward_model(model):
        inner: Any = model
        inner.score.float()


def set_pad_token(model: nn.Module, tokenizer: Tokenizer, template: BoundTemplate | None) -> None:
    """Choose a padding token that ends no conversation, and let model and tokenizer know it.

    transformers reads the score of a padded row at the last token that is not the padding token.
    Where answers end with that very token (many tokenizers pad with the end-of-turn token), it would
    read one token too early; then another special token is taken for padding.

    Raises:
        ModelError: the tokenizer has no other special token.
    """
    changed: Any = tokenizer
    if template is not None:
        text = template.render([Message("user", "a"), Message("assistant", "b")])
        last = tokenizer(text, add_special_tokens=False)["input_ids"][-1]
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id == last:
            changed.pad_token = _other_special(tokenizer, last)
    config: Any = model.config
    config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _other_special(tokenizer: Tokenizer, last: int) -> str:
    preferred = [getattr(tokenizer, name, None) for name in ("unk_token", "bos_token", "eos_token")]
    for each in [*preferred, *tokenizer.all_special_tokens]:
        if each and tokenizer.convert_tokens_to_ids(each) != last:
            return str(each)
    raise ModelError(
        "tokenizer: its only special token ends every answer, so rows of several lengths cannot be padded for "
        "a reward model; add one with model.additional_special_tokens=['<pad>']"
    )
