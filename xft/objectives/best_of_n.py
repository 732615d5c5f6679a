"""Best-of-n: supervised fine-tuning on the best completion of each prompt."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xft.models import target_loss
from xft.objectives.online import OnlineObjective
from xft.registry import register
from xft.types import Batch, LossOutput
from xft.types.ranges import Real


@register("objective", "best_of_n")
@dataclass(frozen=True, kw_only=True)
class BestOfN(OnlineObjective):
    r"""Train on the completion with the highest reward of each prompt: :math:`-\sum_t \log\pi(t)`.

    Also known as rejection-sampling fine-tuning (Yuan et al. 2023, https://arxiv.org/abs/2308.01825). The baseline for
    policy gradients: what they gain must be more than this. Prompts whose rewards are all equal are left out.

    Args:
        min_reward: smallest reward of a completion that is trained on; ``None`` trains on any.
    """

    min_reward: Real | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its target tokens."""
        loss, num_correct, num_targets = target_loss(model, batch)
        return LossOutput(loss, num_targets, {"accuracy": num_correct})

    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """Return 1 for the first of the best completions of a group, NaN for all others."""
        groups = rewards.view(-1, group_size).nan_to_num(float("-inf"))
        best, index = groups.max(dim=1)
        worst = rewards.view(-1, group_size).nan_to_num(float("inf")).amin(dim=1)
        result = torch.full_like(groups, float("nan"))
        chosen = (best > worst) & best.isfinite()
        if self.min_reward is not None:
            chosen &= best >= self.min_reward
        result[chosen, index[chosen]] = 1.0
        return result.flatten()
