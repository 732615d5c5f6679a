"""LoRA adapters, as peft has them."""

import re

from xft.config.foreign_keys import FOREIGN_KEYS
from xft.migration.arguments import Arguments
from xft.migration.values import count, names, text

_ALL = ("all", "all-linear", "all_linear")
_INIT = re.compile(r"pissa(_niter_[1-9][0-9]*)?|olora")
_PREFIXES = ("lora_", "peft_", "loraplus_", "pissa_")
_NAMES = ("additional_target", "modules_to_save", "target_parameters", "create_new_adapter")


def import_lora(values: Arguments, rank: int, alpha: int | None, dropout: float | None = 0.0) -> None:
    """Take over an adapter, without its layers.

    Args:
        values: arguments with the names of peft, with or without ``lora_``.
        rank: default of the tool.
        alpha: default of the tool; ``None`` is twice the rank.
        dropout: default of the tool; ``None`` leaves the dropout to the caller.
    """
    draft = values.draft
    draft.set("adapter", {"type": "lora"})
    rank_key, alpha_key = values.find("lora_r", "lora_rank"), values.full_name("lora_alpha")
    given = values.take("adapter.r", count, "lora_r", "lora_rank")
    draft.default(rank_key, "adapter.r", rank)
    if values.take("adapter.lora_alpha", count, "lora_alpha") is None:
        draft.default(alpha_key, "adapter.lora_alpha", 2 * (given or rank) if alpha is None else alpha)
    if dropout is not None and "lora_dropout" not in values:
        draft.default(values.full_name("lora_dropout"), "adapter.lora_dropout", dropout)
    saved = ("lora_modules_to_save", "additional_target", "modules_to_save")
    values.take("adapter.modules_to_save", names, *saved)
    _initial_weights(values)


def take_targets(values: Arguments, *keys: str) -> bool:
    """Take over the adapted layers: a name, a list, a regular expression, or names with commas.

    Returns:
        Whether there are any.

    Raises:
        ConfigError: the value is none of them.
    """
    key = values.find(*keys)
    given = values.read(_targets, *keys)
    if not given:
        return False
    values.draft.take(key, "adapter.target_modules", given)
    return True


def take_experts(values: Arguments, *keys: str) -> None:
    """Take over adapted parameters, which are those of fused experts."""
    key, given = values.find(*keys), values.pop(*keys)
    if given:
        values.draft.change(key, "all experts and all linear layers", "adapter.target_modules", "all")
    elif given is not None:
        values.draft.note(key, "no experts")


def without_adapter(values: Arguments) -> None:
    """Record the keys of an adapter that the run does not have."""
    values.draft.set("adapter", None)
    keys = [
        key
        for key in values.unread
        if key.startswith(_PREFIXES)
        or key in _NAMES
        or (FOREIGN_KEYS.get(key) or "").startswith("adapter.")
    ]
    values.note("without an adapter, it has no effect", *keys)


def _targets(value: object) -> str | list[str]:
    if isinstance(value, str) and not ("," in value or value in _ALL):
        return value
    listed = names(value)
    if any(name in _ALL for name in listed):
        return "all-linear"
    return listed


def _initial_weights(values: Arguments) -> None:
    """Take over PiSSA and OLoRA, under the keys of LLaMA-Factory and of axolotl."""
    draft, key = values.draft, values.find("peft_init_lora_weights", "init_lora_weights")
    name = values.read(_init_name, "peft_init_lora_weights", "init_lora_weights")
    if name is not None and (_INIT.fullmatch(name) or name == "default"):
        draft.take(key, "adapter.init_lora_weights", name)
    elif name is not None:
        draft.change(key, f"{name} is not in xft: A is random, and B is zero")
    if values.is_on("pissa_init"):
        steps = values.read(_steps, "pissa_iter")
        kind = f"pissa_niter_{steps}" if steps else "pissa" if steps == 0 else "pissa_niter_16"
        draft.take(values.full_name("pissa_init"), "adapter.init_lora_weights", kind)
        if steps is not None:
            draft.take(values.full_name("pissa_iter"), "adapter.init_lora_weights", kind)
        values.note("the saved adapter is an ordinary one, of twice the rank", "pissa_convert")
    values.note("of pissa_init, which is off", "pissa_iter", "pissa_convert")
    if draft.get("adapter.init_lora_weights") not in (None, "default"):
        key = values.full_name("lora_dropout")
        if values.pop("lora_dropout") or draft.get("adapter.lora_dropout"):
            how = "0: A and B hold principal components"
            draft.change(key, how, "adapter.lora_dropout", 0.0)


def _init_name(value: object) -> str:
    if isinstance(value, bool):
        return "default" if value else "without zeros"
    return text(value)


def _steps(value: object) -> int:
    """Return the number of iterations; -1 is an exact decomposition, 0 here."""
    return 0 if isinstance(value, int) and value < 0 else count(value)
