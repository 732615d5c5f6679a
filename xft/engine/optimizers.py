"""Optimizers, and how the learning rate goes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from xft.errors import ConfigError
from xft.models.sizes import whole_shape
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


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The trained weights, in two groups: weight decay is for matrices, not for vectors.

    Raises:
        ConfigError: nothing is trained.
    """
    trained = [each for each in model.parameters() if each.requires_grad]
    if not trained:
        raise ConfigError(
            "model: no weight is trained; give it an adapter, or set adapter=None to train all"
        )
    matrices = [each for each in trained if len(whole_shape(each)) >= 2]
    vectors = [each for each in trained if len(whole_shape(each)) < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
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
