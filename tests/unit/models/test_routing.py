"""The auxiliary loss of whole models, and the load of their experts."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.mixtures import FAMILIES, NUM_EXPERTS, mixture, train_adapter
from helpers.tiny import tiny_config
from transformers import AutoModelForCausalLM

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.models import LoRA, TrainingModel
from xft.models.checks.attention_checks import choose_attention
from xft.models.model_options import ModelOptions, set_model_options
from xft.models.routing import describe_auxiliary_loss, find_routing
from xft.objectives import next_token
from xft.types import Batch, Sample

WITHOUT_LOSS = {"deepseek_v3", "llama4_text"}


def _samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(4, 97, (length,), generator=generator).numpy() for length in (9, 14)]
    return [Sample(row, np.concatenate([[-100], row[1:]])) for row in ids]


def _model(family: str, coefficient: float | None = None, **options: Any) -> Any:
    model = mixture(family, **options)
    model.set_attn_implementation(choose_attention(model.config))
    set_model_options(model, ModelOptions(router_aux_loss_coef=coefficient))
    return model


def _step(model: Any, batch: Batch) -> Any:
    output = TrainingModel(model, next_token)(batch)
    output.loss_sum.backward()
    return output


def _gradient(model: Any) -> torch.Tensor:
    return torch.cat([param.grad.flatten() for param in model.parameters() if param.grad is not None])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WITHOUT_LOSS])
def test_loss_of_padded_rows_is_that_of_transformers(family: str) -> None:
    batch = collate_padded(_samples(), pad_token_id=0)
    ours, theirs = _model(family, 0.5), _model(family)
    theirs.set_attn_implementation("eager")
    theirs.router_aux_loss_coef = 0.5
    output = _step(ours, batch)
    expected = theirs(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=batch.labels,
        output_router_logits=True,
    )
    expected.loss.backward()
    torch.testing.assert_close(output.loss_sum / output.num_targets, expected.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.metrics["aux_loss"] / output.num_targets, expected.aux_loss)
    assert (_gradient(ours) / output.num_targets - _gradient(theirs)).norm() < 1e-5 * _gradient(
        theirs
    ).norm()


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_packed_and_padded_rows_have_the_same_loss_and_load(family: str) -> None:
    model = _model(family)
    packed = _step(model, collate_padding_free(_samples()))
    padded = _step(model, collate_padded(_samples(), pad_token_id=0))
    torch.testing.assert_close(packed.loss_sum, padded.loss_sum)
    assert packed.metrics.keys() == padded.metrics.keys()
    for name, value in packed.metrics.items():
        torch.testing.assert_close(value, padded.metrics[name], msg=name)
    share = float(packed.metrics["moe/max_load"]) / packed.num_targets
    assert 1 / NUM_EXPERTS < share <= 1 / 2  # each token has two experts
    assert ("aux_loss" in packed.metrics) == (family == "qwen3_moe")


@pytest.mark.parametrize("checkpointed", [False, True])
def test_adapter_gets_the_gradient_of_the_auxiliary_loss(checkpointed: bool) -> None:
    grads = []
    for coefficient in (0.0, 10.0):
        model = train_adapter(
            LoRA(r=2, target_modules="all").apply(_model("mixtral", coefficient), [])
        ).train()
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        _step(model, collate_padding_free(_samples()))
        grads.append(
            torch.cat([param.grad.flatten() for param in model.parameters() if param.requires_grad])
        )
    assert (grads[1] - grads[0]).norm() > 0.01 * grads[0].norm()
    if checkpointed:
        plain = train_adapter(LoRA(r=2, target_modules="all").apply(_model("mixtral", 10.0), [])).train()
        _step(plain, collate_padding_free(_samples()))
        torch.testing.assert_close(grads[1], _gradient(plain))


def test_validation_has_no_auxiliary_loss() -> None:
    batch, model = collate_padding_free(_samples()), _model("qwen3_moe", 5.0)
    with torch.no_grad():
        output = TrainingModel(model, next_token)(batch)
        assert torch.equal(output.loss_sum, next_token(model, batch).loss_sum)
    assert output.metrics.keys() == {"accuracy"}


@pytest.mark.parametrize(
    ("requested", "outputs_logits", "coefficient"), [(None, False, 0), (None, True, 0.25), (0.5, False, 0.5), (0.0, True, 0)]
)  # fmt: skip
def test_loss_is_added_by_default_where_transformers_adds_it(
    requested: float | None, outputs_logits: bool, coefficient: float
) -> None:
    """The metric is logged in any case."""
    options = {"router_aux_loss_coef": 0.25, "output_router_logits": outputs_logits}
    model = _model("qwen3_moe", requested, **options)
    routing = find_routing(model)
    assert routing is not None
    assert routing.coefficient == coefficient
    batch = collate_padding_free(_samples())
    output, plain = TrainingModel(model, next_token)(batch), next_token(model, batch)
    torch.testing.assert_close(
        output.loss_sum, plain.loss_sum + coefficient * output.metrics["aux_loss"], rtol=1e-6, atol=0
    )


def test_description_names_the_coefficient() -> None:
    assert describe_auxiliary_loss(_model("qwen3_moe", 0.25)) == "aux loss × 0.25"
    assert describe_auxiliary_loss(_model("qwen3_moe")).startswith("aux loss not added")
    assert describe_auxiliary_loss(_model("deepseek_v3")) == "no auxiliary loss in this family"
    dense = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    assert describe_auxiliary_loss(dense) == ""
    for model in (_model("deepseek_v3", 0.1), dense):
        set_model_options(model, ModelOptions(router_aux_loss_coef=0.1))
        with pytest.raises(ConfigError) as error:
            find_routing(model)
        assert (error.value.key, error.value.got) == ("model.router_aux_loss_coef", 0.1)
