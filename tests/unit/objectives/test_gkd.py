"""GKD: all completions are trained on, with the divergence from the teacher as loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, whole_model

from xft.data import Collator
from xft.errors import ConfigError
from xft.models.distillation import target_divergence
from xft.objectives import GKD
from xft.objectives.gkd import GKDWithTeacher
from xft.types import PolicyTargets


def test_loss_is_the_divergence_summed_over_the_tokens() -> None:
    model, teacher = adapted_model(), whole_model(seed=3).requires_grad_(False)
    batch = Collator().collate(pair_samples(), range(8))
    batch = replace(batch, policy=PolicyTargets(torch.ones(8), torch.zeros(batch.num_targets)))
    objective = GKDWithTeacher(GKD(teacher="t", beta=0.2, temperature=0.8), teacher)
    output = objective(model, batch)
    expected = target_divergence(model, teacher, batch, 0.2, 0.8).sum()
    assert float(output.loss_sum) == float(expected) > 0
    assert output.num_targets == objective.count_targets(batch) == batch.num_targets


def test_a_batch_without_completions_has_a_loss_of_zero_with_a_gradient() -> None:
    batch = Collator().collate(pair_samples(), [])
    output = GKDWithTeacher(GKD(teacher="t"), whole_model(seed=3))(adapted_model(), batch)
    assert (float(output.loss_sum), output.num_targets) == (0.0, 0)
    assert output.loss_sum.requires_grad


def test_all_completions_are_trained_on_whatever_their_reward() -> None:
    rewards = torch.tensor([1.0, 0.0, float("nan")])
    assert GKD(teacher="t").advantages(rewards, 3).tolist() == [1.0, 1.0, 1.0]


def test_the_teacher_is_loaded_by_the_key_of_the_config() -> None:
    loaded: list[Any] = []

    class Context:
        def load_frozen(self, *arguments: Any) -> str:
            loaded.append(arguments)
            return "teacher"

    context: Any = Context()
    objective = GKD(teacher="runs/big", teacher_bits=4)
    assert objective.bind_reference(context) == GKDWithTeacher(objective, "teacher")  # type: ignore[arg-type]
    assert loaded == [("runs/big", "objective.teacher", 4)]
    with pytest.raises(ConfigError) as error:
        objective(adapted_model(), Collator().collate(pair_samples(), [0]))
    assert error.value.key == "objective.teacher"
