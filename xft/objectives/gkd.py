"""GKD: on-policy distillation (Agarwal et al. 2024, https://arxiv.org/abs/2306.13649).

The student answers prompts, and learns the distribution of a teacher at each token of its answers.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from xft.errors import ConfigError
from xft.models.distillation import target_divergence
from xft.models.reference import ReferenceContext
from xft.objectives.base import Objective
from xft.objectives.online import OnlineObjective
from xft.registry import register
from xft.types import Batch, LossOutput
from xft.types.ranges import Fraction, Positive


@register("objective", "gkd")
@dataclass(frozen=True, kw_only=True)
class GKD(OnlineObjective):
    r"""Train on the divergence from a teacher at each token of the student's own completions.

    The loss is :math:`\frac{1}{T} \sum_t D_\beta(P_t \| Q_t)` in nats per token. :math:`P_t` and :math:`Q_t` are the
    distributions of teacher and student over the whole vocabulary at the :math:`t`-th of the :math:`T` tokens of the step,
    and :math:`D_\beta` is the generalized Jensen-Shannon divergence (eq. 1 of the paper,
    :func:`xft.losses.generalized_jsd`). The gradient flows through :math:`Q_t` only, not through the sampling. No reward is
    needed; rewards of the config are logged. Both models need the same tokenizer.

    Args:
        teacher: run folder, checkpoint, adapter, model folder or name of the teacher, which is frozen.
        teacher_bits: load the teacher quantized to 4 or 8 bits.
        beta: 0 is the forward KL divergence, which covers all of the teacher's answers; 1 the reverse one, which keeps
            to its likely answers; between them the generalized Jensen-Shannon divergence.
        temperature: divisor of the logits of both models in the loss; that of the sampling is ``rollout.temperature``.
        lmbda: fraction of prompts that the student answers (:math:`\lambda` of the paper). For the others the answer of the
            row is used, which ``data.keep_answers=True`` keeps.
    """

    requires_rewards: ClassVar[bool] = False

    teacher: str
    teacher_bits: Literal[4, 8] | None = None
    beta: Fraction = 0.5
    temperature: Positive = 1.0
    lmbda: Fraction = 1.0

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Refuse: the teacher is loaded by ``bind_reference``.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            key="objective.teacher", got="a teacher that is not loaded", expected="bind_reference() to load it"
        )  # fmt: skip

    def bind_reference(self, context: ReferenceContext) -> Objective:
        """Load the teacher.

        Raises:
            ConfigError, ModelError: the teacher cannot be loaded, or has another tokenizer.
        """
        return GKDWithTeacher(
            self, context.load_frozen(self.teacher, "objective.teacher", self.teacher_bits)
        )

    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """Return ``(completions,)`` of 1: all completions are trained on, independent of ``rewards``."""
        return torch.ones_like(rewards)

    @property
    def on_policy_fraction(self) -> float:
        """Fraction of prompts that the model answers."""
        return self.lmbda


@dataclass(frozen=True)
class GKDWithTeacher(Objective):
    """GKD together with its loaded teacher.

    Attributes:
        objective: objective of the config.
        teacher: frozen, on the device of the trained model.
    """

    objective: GKD
    teacher: nn.Module

    data_kind: ClassVar[str] = "prompts"

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the divergence from the teacher in nats, summed over the target tokens of a batch."""
        objective = self.objective
        divergence = target_divergence(model, self.teacher, batch, objective.beta, objective.temperature)
        return LossOutput(divergence.sum(), batch.num_targets)
