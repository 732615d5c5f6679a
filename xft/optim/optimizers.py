"""Optimizers, and how the learning rate goes."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from xft.errors import ConfigError
from xft.models.adapters.lora_init import num_held
from xft.models.param_shapes import whole_shape
from xft.registry import register


@register("optimizer", "adamw")
def adamw(
    params: Iterable[Any],
    lr: float = 2e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW of torch (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    groups = list(params)
    weights = [
        each for group in groups for each in (group["params"] if isinstance(group, dict) else [group])
    ]
    # One pass over all weights instead of a dozen small operations for each; on a GPU torch does so itself.
    fused = all(each.device.type == "cpu" for each in weights) or None
    return torch.optim.AdamW(
        groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, fused=fused
    )


@register("optimizer", "paged_adamw_8bit")
def paged_adamw_8bit(
    params: Iterable[Any],
    lr: float = 2e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes with 8-bit state that moves to the host when the GPU is full.

    Raises:
        ConfigError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ConfigError("optimizer: paged_adamw_8bit needs a CUDA GPU; on this machine take 'adamw'")
    import bitsandbytes

    return bitsandbytes.optim.PagedAdamW8bit(
        params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay
    )


@register("optimizer", "adamw_8bit")
def adamw_8bit(
    params: Iterable[Any],
    lr: float = 2e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes with 8-bit state (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861).

    Raises:
        ConfigError: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ConfigError("optimizer: adamw_8bit needs a CUDA GPU; on this machine take 'adamw'")
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(
        params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay
    )


@register("optimizer", "muon")
def muon(
    params: Iterable[Any],
    lr: float = 2e-4,
    momentum: float = 0.95,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Muon of torch (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), for adapters.

    Its steps are as long as those of AdamW at the same rate (Liu et al. 2025,
    https://arxiv.org/abs/2502.16982).

    Raises:
        ConfigError: something trained is no matrix, such as the norms of a whole model, or this torch
            has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"optimizer: muon needs torch 2.9 or newer, this is {torch.__version__}")
    groups = list(params)
    if any(each.ndim != 2 for group in groups for each in group["params"]):
        raise ConfigError(
            "optimizer: muon is for matrices, and vectors are trained too; train an adapter without DoRA, or "
            "take 'adamw'"
        )
    return torch.optim.Muon(
        groups, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )


@register("optimizer", "schedule_free_adamw")
def schedule_free_adamw(
    params: Iterable[Any],
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW that averages its weights in place of a falling rate (Defazio et al. 2024, https://arxiv.org/abs/2405.15682).

    From the package ``schedulefree``. It goes with ``schedule='constant'``, whose warm-up counts, and with a rate up
    to ten times that of AdamW. Gradients are taken at a point between the newest weights and their average; what
    is validated, asked and saved is the average (see ``averages``).

    Raises:
        ConfigError: the package is not installed.
    """
    if find_spec("schedulefree") is None:
        raise ConfigError(
            "optimizer: schedule_free_adamw needs the package schedulefree; `pip install xft-tuner[schedulefree]`, or "
            "in a checkout `pip install -r requirements/schedulefree.txt`"
        )
    from schedulefree import AdamWScheduleFree

    optimizer: torch.optim.Optimizer = AdamWScheduleFree(
        params, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay
    )
    return optimizer


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], model: nn.Module, lr_ratio: float = 1.0
) -> torch.optim.Optimizer:
    """Make the optimizer of a model.

    Args:
        make: an optimizer's class, or a function that gives one, with everything but the weights bound.
        model: whose trained weights it steps.
        lr_ratio: how many times as high as its rate that of B is (LoRA+).

    Raises:
        ConfigError: nothing is trained, or the optimizer would change what must stay as it is.
    """
    groups = parameter_groups(model, apart=lr_ratio != 1)
    at_the_rate_of_b = [group.pop("at_the_rate_of_b", False) for group in groups]
    held = {id(each) for each in model.parameters() if num_held(each)}
    optimizer = make(groups)
    for group, faster in zip(optimizer.param_groups, at_the_rate_of_b, strict=True):
        if faster:
            group["lr"] = group["lr"] * lr_ratio
        if group.get("weight_decay") and any(id(each) in held for each in group["params"]):
            raise ConfigError(
                f"optimizer.weight_decay: got {group['weight_decay']}, but half of an adapter that begins with a part of "
                "the weights is held where it is, and would shrink; set weight_decay=0, or adapter.init='lora'"
            )
    return optimizer


def averages(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer keeps an average of the weights, and takes gradients at another point than that: those
    of the package ``schedulefree`` move the weights between the two with ``train()`` and ``eval()``.

    Strategies move them to that point for a step and back at its end, so that whatever looks at the model
    between steps, or saves it, has the average. Moving rounds; as it is done in every step, a run does not
    depend on when it is looked at, and one that is resumed has the same bits.
    """
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def leave_average(optimizer: Any) -> None:
    """Put the weights where the optimizer takes gradients, where that is not where they are."""
    if averages(optimizer):
        optimizer.train()


def take_average(optimizer: Any) -> None:
    """Put the weights where the optimizer has their average, if it keeps one."""
    if averages(optimizer):
        optimizer.eval()


def check_schedule(optimizer: torch.optim.Optimizer, schedule: LRScheduler, num_steps: int) -> None:
    """See that the rate does not fall where the optimizer averages in place of that.

    Raises:
        ConfigError: it does.
    """
    rates = getattr(schedule, "lr_lambdas", [])
    if averages(optimizer) and any(rate(num_steps - 1) < 1 for rate in rates):
        raise ConfigError(
            f"schedule: {type(optimizer).__name__} averages its weights in place of a falling learning rate, and this "
            "one falls; set schedule='constant' (schedule.type=constant), whose warm-up it knows of"
        )


def parameter_groups(model: nn.Module, apart: bool = False) -> list[dict[str, Any]]:
    """The trained weights in groups: weight decay is for matrices, not for vectors.

    Args:
        model: whose.
        apart: put what learns at the rate of B under LoRA+ into groups of its own, as
            ``peft.optimizers.create_loraplus_optimizer`` does: B, and vectors. They are marked
            ``at_the_rate_of_b``.

    Raises:
        ConfigError: nothing is trained.
    """
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    if not trained:
        raise ConfigError(
            "model: no weight is trained; give it an adapter, or set adapter=None to train all"
        )
    matrices = [(name, each) for name, each in trained if len(whole_shape(each)) >= 2]
    second = [each for name, each in matrices if apart and ".lora_B." in name]
    first = [each for name, each in matrices if not (apart and ".lora_B." in name)]
    vectors = [each for _, each in trained if len(whole_shape(each)) < 2]
    faster = {"at_the_rate_of_b": True} if apart else {}
    groups: list[dict[str, Any]] = [
        {"params": first},
        {"params": second, **faster},
        {"params": vectors, "weight_decay": 0.0, **faster},
    ]
    return [each for each in groups if each["params"]]


def _scheduler(
    name: str, optimizer: torch.optim.Optimizer, num_steps: int, warmup: float, **options: Any
) -> LRScheduler:
    from transformers import get_scheduler

    if warmup < 0:
        raise ConfigError(f"schedule.warmup: got {warmup}, expected 0 or more")
    steps = round(warmup * num_steps) if warmup < 1 else int(warmup)
    # At least one step must come after the warm-up, or the full rate is never reached.
    steps = min(steps, num_steps - 1)
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=steps,
        num_training_steps=num_steps,
        scheduler_specific_kwargs=options or None,
    )


@register("schedule", "cosine")
def cosine(
    optimizer: torch.optim.Optimizer,
    num_steps: int,
    warmup: float = 0.03,
    min_lr_ratio: float = 0.0,
) -> LRScheduler:
    """Up linearly during the warm-up, then down along half a cosine.

    Args:
        optimizer: whose rates are the highest.
        num_steps: optimizer steps in the whole run.
        warmup: a share of the steps, or a number of them from 1 on.
        min_lr_ratio: where the rate ends, as a share of the highest.
    """
    return _scheduler("cosine_with_min_lr", optimizer, num_steps, warmup, min_lr_rate=min_lr_ratio)


@register("schedule", "linear")
def linear(optimizer: torch.optim.Optimizer, num_steps: int, warmup: float = 0.03) -> LRScheduler:
    """Up linearly during the warm-up, then down linearly to zero."""
    return _scheduler("linear", optimizer, num_steps, warmup)


@register("schedule", "constant")
def constant(optimizer: torch.optim.Optimizer, num_steps: int, warmup: float = 0.03) -> LRScheduler:
    """Up linearly during the warm-up, then level."""
    return _scheduler("constant_with_warmup", optimizer, num_steps, warmup)
