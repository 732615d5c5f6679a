"""What to change where a run does not fit: keys of the config, as they are typed."""

from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan
from xft.training.hooks import CheckpointHook, SampleGenerationHook, ValidationHook


def advice(kind: str, recipe: Recipe, plan: TrainingPlan | None) -> list[str]:
    """What may be changed so that a part needs less memory, the mildest change first.

    Args:
        kind: of the part (see ``Part``).
        recipe: of the run.
        plan: of the run; ``None`` before there is one.

    Returns:
        Lines of ``KEY=VALUE`` for ``--cfg-options``, each with what it costs.
    """
    if kind in ("forward", "backward", "speed"):
        return [*_smaller_portions(plan), *_cheaper_activations(recipe), *_smaller_model(recipe)]
    if kind == "optimizer":
        return _smaller_state(recipe) or [*_smaller_portions(plan), *_smaller_model(recipe)]
    if kind == "validation":
        for name, hook in recipe.hooks.items():
            if isinstance(hook, ValidationHook) and hook.batch_size > 1:
                return [f"hooks.{name}.batch_size={hook.batch_size // 2}  (slower validation)"]
    if kind == "generation":
        for name, hook in recipe.hooks.items():
            if isinstance(hook, SampleGenerationHook):
                return [
                    f"hooks.{name}.max_new_tokens={max(hook.max_new_tokens // 2, 1)}, or fewer questions"
                ]
    if kind == "checkpoint":
        for name, hook in recipe.hooks.items():
            if isinstance(hook, CheckpointHook) and hook.save_optimizer_state:
                return [
                    f"hooks.{name}.save_optimizer_state=False  (such a checkpoint cannot be resumed from)"
                ]
    return _smaller_model(recipe)


def _smaller_portions(plan: TrainingPlan | None) -> list[str]:
    if plan is None or plan.batches.micro_batch_size == 1:
        return []
    size, accumulation = plan.batches.micro_batch_size, plan.batches.gradient_accumulation_steps
    if size % 2 == 0:
        return [
            f"training.micro_batch_size={size // 2} training.gradient_accumulation_steps={accumulation * 2}  (the same step in "
            "smaller portions, a little slower)"
        ]
    return [
        f"training.micro_batch_size=1 training.gradient_accumulation_steps={accumulation * size}  (the same step, row by row)"
    ]


def _cheaper_activations(recipe: Recipe) -> list[str]:
    ways = []
    if recipe.model.gradient_checkpointing is not True:
        ways.append("model.gradient_checkpointing=True  (about a third more time, far less memory)")
    if recipe.data.pack_length >= 512:
        shorter = recipe.data.pack_length // 2
        ways.append(
            f"data.max_length={shorter}  (shorter rows; longer ones are dropped or cut, and counted)"
        )
    return ways


def _smaller_state(recipe: Recipe) -> list[str]:
    if recipe.adapter is not None:
        return [f"adapter.r={max(recipe.adapter.r // 2, 1)}  (a smaller adapter)"]
    return [
        "adapter=lora  (train an adapter: the optimizer then holds one or two weights in a hundred)",
        "optimizer.type=paged_adamw_8bit  (on a GPU: a quarter of the optimizer's state)",
    ]


def _smaller_model(recipe: Recipe) -> list[str]:
    ways = []
    if recipe.adapter is None:
        ways += _smaller_state(recipe)[:1]
    elif recipe.quantization is None:
        ways.append("quantization=nf4  (the frozen weights in 4 bits)")
    if recipe.model.dtype == "float32":
        ways.append("model.dtype=bfloat16  (weights of half the size)")
    return [*ways, "model.path=…  (a smaller model)", "a device with more memory, or several of them"]
