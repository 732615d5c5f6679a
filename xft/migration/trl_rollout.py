"""Reinforcement learning of TRL: how completions are sampled, rewarded and compared."""

from xft.migration.arguments import Arguments
from xft.migration.values import count, names, number, switch, text

KEYS = ("num_generations", "max_completion_length", "reward_funcs", "num_iterations", "scale_rewards")
"""Keys that only GRPO has."""
_LOSSES = ("grpo", "dr_grpo", "dapo", "cispo")
_BNPO = "dapo, which normalizes by the tokens of the whole step and not of a micro-batch"
_SAMPLING = "completions are sampled with the temperature alone"
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "top_p": (1, 1.0),
    "top_k": (0, -1),
    "min_p": (0, 0.0),
    "repetition_penalty": (1, 1.0),
}
"""Values that change nothing."""
_GENERATIONS = 8


def import_rollout(values: Arguments) -> None:
    """Take over sampling, loss, rewards and the batch of prompts.

    Raises:
        ConfigError: a value has another type, or a loss that xft does not have.
    """
    draft = values.draft
    _loss(values)
    values.take("rollout.num_generations", count, "num_generations")
    values.take("rollout.num_iterations", count, "num_iterations")
    values.take("rollout.max_new_tokens", count, "max_completion_length")
    values.take("rollout.temperature", number, "temperature")
    for key in ("epsilon", "epsilon_high"):
        values.take(f"objective.{key}", number, key)
    draft.default("num_generations", "rollout.num_generations", _GENERATIONS)
    draft.default("max_completion_length", "rollout.max_new_tokens", 512)
    _rewards(values)
    for key, neutral in _NEUTRAL.items():
        value = values.pop(key)
        if value is not None:
            (draft.note if value in neutral else draft.miss)(key, _SAMPLING)
    if values.is_on("use_vllm"):
        how = "the trained model itself samples; rollout.engine=dict(type='openai_server', ...) uses a server (docs/rl.md)"
        draft.change("use_vllm", how)
    _batch(values)


def _loss(values: Arguments) -> None:
    """Take over the loss and the scale of the advantages."""
    draft, loss = values.draft, values.read(text, "loss_type")
    level = values.read(text, "importance_sampling_level")
    if loss == "bnpo":
        draft.change("loss_type", f"bnpo: {_BNPO}", "objective.loss_type", "dapo")
    elif loss is not None and loss not in _LOSSES:
        draft.refuse("loss_type", loss, f"{', '.join(_LOSSES)} or bnpo")
    elif loss is not None:
        draft.take("loss_type", "objective.loss_type", loss)
    if level == "sequence":
        how = "ratios of whole completions; loss_type has no effect on it"
        draft.change("importance_sampling_level", f"gspo: {how}", "objective.loss_type", "gspo")
    elif level is not None:
        draft.note("importance_sampling_level", "ratios of tokens")
    scale = values.read(_scale, "scale_rewards")
    if scale is not None:
        draft.take("scale_rewards", "objective.scale_rewards", scale)
    if values.is_on("vllm_importance_sampling_correction"):
        draft.take("vllm_importance_sampling_correction", "objective.importance_sampling_correction", True)


def _scale(value: object) -> str:
    if value in ("group", "batch", "none"):
        return str(value)
    try:
        return "group" if switch(value) else "none"
    except ValueError as error:
        raise ValueError("group, batch, none, true or false") from error


def _rewards(values: Arguments) -> None:
    draft, keys = values.draft, ("reward_funcs", "reward_model_name_or_path")
    key, functions = values.find(*keys), values.read(names, *keys) or []
    how = f"{', '.join(functions) or 'none'}: replaced by a reward on the length; see docs/rl.md"
    draft.change(key, how, "rewards", {"length": {"type": "length"}})
    values.miss("set objective.reward_weights for the rewards of xft", "reward_weights")


def _batch(values: Arguments) -> None:
    """A batch counts completions in TRL, and prompts in xft."""
    draft = values.draft
    batch_key, steps_key = "per_device_train_batch_size", "gradient_accumulation_steps"
    batch = values.read(count, batch_key) or 8
    steps = values.read(count, steps_key) or 1
    generations = draft.get("rollout.num_generations")
    prompts = max(1, batch // generations)
    passes = max(1, round(batch * steps / generations / prompts))
    how = f"{batch} completions, and xft counts prompts: {prompts} of {generations} completions"
    draft.change(batch_key, how, "training.micro_batch_size", prompts)
    how = f"{passes}, for about {batch * steps} completions per step"
    draft.change(steps_key, how, "training.gradient_accumulation_steps", passes)
