"""Values that a run has resolved: defaults and automatic choices that its config does not show."""

from collections.abc import Iterator, Mapping

from xft.compat.peft import PeftModel
from xft.strategies import Strategy
from xft.training.hooks.periodic import PeriodicHook
from xft.training.setup import TrainSetup


def resolved_values(setup: TrainSetup, strategy: Strategy) -> dict[str, object]:
    """Return dotted key to value, without those that the config has already."""
    return {key: value for key, value in _values(setup, strategy) if _lookup(setup.config, key) != value}


def _values(setup: TrainSetup, strategy: Strategy) -> Iterator[tuple[str, object]]:
    base, batches = setup.model.base, setup.plan.batches
    yield "model.dtype", str(base.dtype).removeprefix("torch.")
    yield "model.attn_implementation", base.config._attn_implementation
    yield from _adapter(setup)
    yield "data.packing", batches.pack_length is not None
    yield "data.val_split", setup.data.report.rows_val
    yield "training.max_steps", setup.plan.num_steps
    yield "training.micro_batch_size", batches.micro_batch_size
    yield "training.gradient_accumulation_steps", batches.gradient_accumulation_steps
    yield "strategy.device", str(strategy.device)
    for name, hook in setup.run_config.hooks.items():
        if isinstance(hook, PeriodicHook):
            yield f"hooks.{name}.interval", hook.steps_between(setup.plan.num_steps)


def _adapter(setup: TrainSetup) -> Iterator[tuple[str, object]]:
    model = setup.model.model
    for config in model.peft_config.values() if isinstance(model, PeftModel) else ():
        if isinstance(config.target_modules, set):
            yield "adapter.target_modules", sorted(config.target_modules)


def _lookup(config: Mapping[str, object], key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
