"""Optimizer, learning-rate scheduler and warm-up, as transformers has them."""

from xft.config.foreign_names import FOREIGN_NAMES
from xft.migration.arguments import Arguments
from xft.migration.values import number, text

_OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "muon", "schedule_free_adamw")
_SCHEDULERS = ("cosine", "linear", "constant")
_NO_WARMUP = "the constant scheduler of transformers has no warm-up"


def import_optimizer(values: Arguments) -> None:
    """Take over the optimizer and its betas."""
    draft, key = values.draft, values.find("optim", "optimizer")
    name = values.read(text, "optim", "optimizer")
    if name is not None:
        known = FOREIGN_NAMES["optimizer"].get(name, name)
        if known in _OPTIMIZERS and not ("32bit" in name and "8bit" in known):
            draft.take(key, "optimizer.type", known)
        elif "bit" in name:
            kind = "paged_adamw_8bit" if "paged" in name else "adamw_8bit"
            draft.change(key, f"{name}: {kind}, AdamW whose state has 8 bits", "optimizer.type", kind)
        else:
            how = f"{name} is not in xft: adamw; compare learning rates"
            draft.change(key, how, "optimizer.type", "adamw")
    betas = {beta: values.read(number, beta) for beta in ("adam_beta1", "adam_beta2")}
    given = tuple(values.full_name(beta) for beta, value in betas.items() if value is not None)
    if given and draft.accepts("optimizer.betas"):
        pair = [
            default if value is None else value
            for value, default in zip(betas.values(), (0.9, 0.999), strict=True)
        ]
        draft.take(given, "optimizer.betas", pair)
    elif given:
        draft.miss(given, f"{draft.get('optimizer.type')} has no betas")


def import_scheduler(values: Arguments, default: str, default_warmup: float, limit: str = "") -> None:
    """Take over the scheduler, its minimum and its warm-up.

    Args:
        values: arguments.
        default: scheduler of the tool without a key.
        default_warmup: warm-up of the tool without a key, as a fraction of the steps.
        limit: what limits it.
    """
    draft, key = values.draft, values.find("lr_scheduler_type", "lr_scheduler")
    given = values.read(text, "lr_scheduler_type", "lr_scheduler")
    name = given or default
    known = FOREIGN_NAMES["lr_scheduler"].get(name, name)
    if given is None:
        draft.default(key, "lr_scheduler.type", known)
    elif known in _SCHEDULERS:
        draft.take(key, "lr_scheduler.type", known)
    else:
        draft.change(key, f"{name} is not in xft: cosine", "lr_scheduler.type", "cosine")
    _minimum(values)
    _warmup(values, name, default_warmup, limit)


def _minimum(values: Arguments) -> None:
    """Take over the learning rate that a cosine ends at."""
    draft, options = values.draft, values.section("lr_scheduler_kwargs")
    is_cosine = draft.get("lr_scheduler.type") == "cosine"
    for section, key in ((values, "cosine_min_lr_ratio"), (options, "min_lr_rate"), (options, "min_lr")):
        name, value = section.full_name(key), section.read(number, key)
        if value is None:
            continue
        if key == "min_lr":
            peak = number(values.peek("learning_rate") or 0)
            value = value / peak if peak else -1.0
        if is_cosine and 0 <= value <= 1:
            draft.take(name, "lr_scheduler.min_lr_ratio", value)
        else:
            draft.miss(name, "only a cosine has a minimum (lr_scheduler.min_lr_ratio), from 0 to 1")


def _warmup(values: Arguments, scheduler: str, default: float, limit: str) -> None:
    """Take over the warm-up: steps, or a fraction of them. Steps have priority, as in transformers."""
    draft = values.draft
    steps_key, ratio_key = (values.full_name(key) for key in ("warmup_steps", "warmup_ratio"))
    steps, ratio = values.read(number, "warmup_steps"), values.read(number, "warmup_ratio")
    if scheduler == "constant":
        draft.default(steps_key, "lr_scheduler.warmup_steps", 0, _NO_WARMUP)
        for key, value in ((steps_key, steps), (ratio_key, ratio)):
            if value is not None:
                draft.note(key, _NO_WARMUP)
        return
    if steps:
        is_ratio = 0 < steps < 1
        path = f"lr_scheduler.warmup_{'ratio' if is_ratio else 'steps'}"
        draft.take(steps_key, path, steps if is_ratio else round(steps))
        if ratio is not None:
            draft.note(ratio_key, f"{steps_key} has priority")
    elif ratio is not None:
        draft.take(ratio_key, "lr_scheduler.warmup_ratio", ratio)
        if steps is not None:
            draft.note(steps_key, f"{ratio_key} has priority")
    elif steps is not None:
        draft.take(steps_key, "lr_scheduler.warmup_steps", 0)
    elif default:
        draft.default(ratio_key, "lr_scheduler.warmup_ratio", default, limit)
    else:
        draft.default(steps_key, "lr_scheduler.warmup_steps", 0)
