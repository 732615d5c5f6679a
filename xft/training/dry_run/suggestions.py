"""Suggest config changes that reduce memory."""

from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.training.hooks.base import Hook


def suggest_less_memory(phase: str, run_config: RunConfig, plan: TrainingPlan | None) -> list[str]:
    """Suggest changes that reduce the memory of a phase, the mildest change first.

    Args:
        phase: name of the phase (see ``PhaseStats``).
        run_config: config of the run.
        plan: plan of the run; ``None`` before it exists.

    Returns:
        Lines of ``KEY=VALUE`` for ``--cfg-options``, each with its consequence.
    """
    if phase in ("forward", "backward", "throughput"):
        return [*_smaller_batch(plan), *_smaller_activations(run_config), *_smaller_model(run_config)]
    if phase == "optimizer":
        return _smaller_optimizer_state(run_config)
    for name, hook in run_config.hooks.items():
        if isinstance(hook, Hook) and (change := hook.suggest_less_memory(phase)) is not None:
            return [f"hooks.{name}.{change}"]
    return _smaller_model(run_config)


def _smaller_batch(plan: TrainingPlan | None) -> list[str]:
    if plan is None or plan.batches.micro_batch_size == 1:
        return []
    size, accumulation = plan.batches.micro_batch_size, plan.batches.gradient_accumulation_steps
    factor = 2 if size % 2 == 0 else size
    return [
        f"training.micro_batch_size={size // factor} "
        f"training.gradient_accumulation_steps={accumulation * factor}  (the same optimizer step, a little slower)"
    ]


def _smaller_activations(run_config: RunConfig) -> list[str]:
    lines = []
    if run_config.model.gradient_checkpointing not in (True, "offload"):
        lines.append("model.gradient_checkpointing=True  (about a third more time, far less memory)")
    if run_config.data.pack_length >= 512:
        shorter = run_config.data.pack_length // 2
        lines.append(
            f"data.max_length={shorter}  (longer rows are dropped or truncated, and counted in the report)"
        )
    return lines


def _smaller_optimizer_state(run_config: RunConfig) -> list[str]:
    if run_config.adapter is not None:
        return [f"adapter.r={max(run_config.adapter.r // 2, 1)}  (a smaller adapter)"]
    return [
        "adapter=lora  (train an adapter: optimizer state for one or two percent of the parameters)",
        "optimizer.type=paged_adamw_8bit  (GPU only: a quarter of the optimizer state)",
    ]


def _smaller_model(run_config: RunConfig) -> list[str]:
    lines = []
    if run_config.adapter is None:
        lines += _smaller_optimizer_state(run_config)[:1]
    elif run_config.quantization is None:
        lines.append("quantization=nf4  (base model in 4 bits)")
    if run_config.model.dtype == "float32":
        lines.append("model.dtype=bfloat16  (parameters of half the size)")
    return [*lines, "model.path=…  (a smaller model)", "a device with more memory, or several devices"]
