"""Losses of GRPO: values by hand, and those of TRL."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tolerances import tolerance

from xft.losses import group_advantages, kl_estimate, policy_loss
from xft.losses.grpo import LossType

COUNTS = (3, 5, 1, 4)
MAX_TOKENS = 6


def test_advantages_are_deviations_from_the_mean_of_the_group() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.5])
    values = group_advantages(rewards, 2)
    deviation = math.sqrt(0.5) + 1e-4
    expected = [0.5 / deviation, -0.5 / deviation, -0.5 / deviation, 0.5 / deviation, 0.0, 0.0]
    assert values.tolist() == pytest.approx(expected)


def test_leave_one_out_compares_with_the_others() -> None:
    values = group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.2]), 4, "none", leave_one_out=True)
    assert values.tolist() == pytest.approx([1 - 0.2 / 3, -1.2 / 3, -1.2 / 3, 0.2 - 1 / 3])


def test_batch_scale_divides_by_the_deviation_of_all_rewards() -> None:
    rewards = torch.tensor([1.0, 0.0, 4.0, 2.0])
    values = group_advantages(rewards, 2, "batch")
    expected = torch.tensor([0.5, -0.5, 1.0, -1.0]) / (rewards.std() + 1e-4)
    torch.testing.assert_close(values, expected)


def test_a_completion_without_reward_has_no_advantage_and_changes_no_other() -> None:
    whole = group_advantages(torch.tensor([1.0, 0.0, 0.4]), 3)
    with_gap = group_advantages(torch.tensor([1.0, 0.0, 0.4, math.nan]), 4)
    assert with_gap.tolist() == pytest.approx([*whole.tolist(), 0.0])


def _random_completions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = sum(COUNTS)
    log_probs = -torch.rand(tokens, generator=generator) * 3
    return {
        "log_probs": log_probs.requires_grad_(),
        "old": log_probs.detach() + torch.randn(tokens, generator=generator) * 0.3,
        "ref": log_probs.detach() + torch.randn(tokens, generator=generator) * 0.2,
        "advantages": torch.tensor([1.2, -0.7, 0.4, -0.9]),
        "weights": 1 + torch.rand(tokens, generator=generator),
    }


def _padded(values: torch.Tensor) -> torch.Tensor:
    """Lay out tokens as TRL has them: ``(completions, longest)``, padded on the right."""
    return torch.nn.utils.rnn.pad_sequence(list(values.split(list(COUNTS))), batch_first=True)


def _loss_of_trl(
    case: dict[str, torch.Tensor], loss_type: str, level: str, epsilon_high: float
) -> torch.Tensor:
    """Call the loss of TRL with log-probabilities instead of a model."""
    from trl import GRPOTrainer

    mask = _padded(torch.ones(sum(COUNTS)))
    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (_padded(case["log_probs"]), mask, None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=0.1,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=epsilon_high,
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_TOKENS,
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda value: value, reduce=lambda value, **_: value
        ),
        _entropy_bonus_enabled=False,
        _metrics={"train": _AnyList()},
    )
    inputs = {
        "prompt_ids": torch.zeros(len(COUNTS), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(COUNTS), 1),
        "completion_ids": mask.long(),
        "completion_mask": mask,
        "advantages": case["advantages"],
        "old_per_token_logps": _padded(case["old"]),
        "ref_per_token_logps": _padded(case["ref"]),
        "importance_sampling_ratio": _padded(case["weights"]),
        "num_items_in_batch": mask.sum(),
    }
    loss: torch.Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss


class _AnyList(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return []


@pytest.mark.parametrize(
    ("loss_type", "trl_type", "level", "epsilon_high"),
    [
        ("grpo", "grpo", "token", 0.28),
        ("dr_grpo", "dr_grpo", "token", 0.2),
        ("dapo", "dapo", "token", 0.28),
        ("cispo", "cispo", "token", 1.3),
        ("gspo", "grpo", "sequence", 0.28),
    ],
)
def test_loss_and_gradient_are_those_of_trl(
    loss_type: LossType, trl_type: str, level: str, epsilon_high: float
) -> None:
    case = _random_completions()
    expected = _loss_of_trl(case, trl_type, level, epsilon_high)
    (expected_grad,) = torch.autograd.grad(expected, case["log_probs"])
    result = policy_loss(
        case["log_probs"],
        case["old"],
        case["advantages"],
        COUNTS,
        loss_type,
        0.2,
        epsilon_high,
        MAX_TOKENS,
        case["weights"],
        0.1 * kl_estimate(case["log_probs"], case["ref"]),
    )
    normalizer = sum(COUNTS) if loss_type in ("dapo", "cispo") else len(COUNTS)
    loss = result.loss_sum / normalizer
    (grad,) = torch.autograd.grad(loss, case["log_probs"])
    bound = tolerance(torch.float32, sum(COUNTS), scale=float(expected_grad.abs().max()) + 1)
    torch.testing.assert_close(loss, expected, rtol=0, atol=bound)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=bound)


def test_clipped_tokens_have_no_gradient_and_are_counted() -> None:
    log_probs = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
    result = policy_loss(log_probs, torch.zeros(3), torch.tensor([1.0]), [3], "dapo", 0.2, 0.2, 8)
    (grad,) = torch.autograd.grad(result.loss_sum, log_probs)
    assert int(result.num_clipped) == 1
    assert grad[0] == 0
    assert grad[1] == -1


def test_kl_estimate_is_zero_for_equal_models_and_positive_otherwise() -> None:
    log_probs = torch.tensor([-1.0, -2.0])
    assert kl_estimate(log_probs, log_probs).tolist() == [0.0, 0.0]
    assert bool((kl_estimate(log_probs, torch.tensor([-2.0, -1.0])) > 0).all())
