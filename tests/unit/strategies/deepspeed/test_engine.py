import pytest
import torch
from helpers.preferences import pair_samples, whole_model

from xft.data import collate_padding_free
from xft.errors import ConfigError
from xft.models import TrainingModel
from xft.models.training_model import unwrap
from xft.objectives import next_token
from xft.strategies.deepspeed import engine
from xft.strategies.deepspeed.engine import DeepSpeedModule, import_deepspeed


def test_deepspeed_module_returns_the_loss_first_and_the_output_of_the_objective() -> None:
    """DeepSpeed accepts tensors and tuples of tensors from a forward call, and no other class first."""
    training_model = TrainingModel(whole_model(), next_token)
    module, batch = DeepSpeedModule(training_model), collate_padding_free(pair_samples())
    loss, output = module(batch)
    assert loss is output.loss_sum
    assert torch.equal(loss, training_model(batch).loss_sum)


def test_deepspeed_module_registers_the_model_and_not_the_training_model() -> None:
    training_model = TrainingModel(whole_model(), next_token)
    module = DeepSpeedModule(training_model)
    assert unwrap(module) is training_model
    assert not any(isinstance(child, TrainingModel) for child in module.modules())
    # Names of parameters, and so of their optimizer state, are those of every other strategy.
    assert [name for name, _ in module.named_parameters()] == [
        name for name, _ in training_model.named_parameters()
    ]


def test_import_deepspeed_that_is_not_installed_raises_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        import_deepspeed()
    assert (error.value.key, error.value.got) == ("strategy.type", "deepspeed")
