import torch
from helpers.preferences import pair_samples, whole_model
from torch import nn

from xft.data import collate_padding_free
from xft.models import TrainingModel
from xft.models.training_model import unwrap
from xft.objectives import next_token


class Wrapper(nn.Module):
    """A module that wraps another as DDP does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_forward_computes_the_objective_on_the_model() -> None:
    model, batch = whole_model(), collate_padding_free(pair_samples())
    output = TrainingModel(model, next_token)(batch)
    assert torch.equal(output.loss_sum, next_token(model, batch).loss_sum)
    assert output.num_targets == batch.num_targets


def test_unwrap_returns_the_training_model_inside_any_wrappers() -> None:
    inner = TrainingModel(nn.Linear(2, 2), next_token)
    assert unwrap(inner) is unwrap(Wrapper(inner)) is unwrap(Wrapper(Wrapper(inner))) is inner
