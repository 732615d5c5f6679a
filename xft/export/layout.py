"""Names of the weights of an exported model whose family has no class in transformers."""

from typing import TYPE_CHECKING, Literal

from xft.compat.peft import PeftModel
from xft.errors import ConfigError
from xft.models.loading import LoadedModel
from xft.models.mapped_families import as_llama, is_mapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Layout = Literal["original", "llama"]
"""Names of the family, or those of Llama, which every reader of Llama models loads."""


def check_layout(layout: Layout, loaded: LoadedModel, merged: bool) -> None:
    """Refuse a layout that does not apply.

    Args:
        layout: requested names.
        loaded: the source of the export.
        merged: an adapter is merged.

    Raises:
        ConfigError: the family has a class in transformers, or an adapter would be written.
    """
    if layout == "original":
        return
    if not is_mapped(loaded.base.config):
        raise ConfigError(
            key="--layout",
            got=f"{layout} for model_type {loaded.base.config.model_type!r}",
            expected="a model of InternLM2 or Baichuan, whose files have other names",
            fix="leave out --layout",
        )
    if isinstance(loaded.model, PeftModel) and not merged:
        raise ConfigError(key="--layout", got="an adapter", expected="a full model", fix="add --merge")


def apply_layout(layout: Layout, model: "PreTrainedModel | PeftModel") -> "PreTrainedModel | PeftModel":
    """Return the model to write in a layout that :func:`check_layout` accepts."""
    return model if layout == "original" or isinstance(model, PeftModel) else as_llama(model)
