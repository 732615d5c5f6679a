"""However a step is cut up, its loss and its gradients are the same.

All of these run the loop itself. Computed in fp32, where sums in another order differ by rounding:
:func:`helpers.tolerances.tolerance` bounds the relative distance of two gradients.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_config
from helpers.tolerances import TINY_MODEL_FP32, relative_distance
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from xft.data import Collator, EpochBatchSampler
from xft.models import ATTN_IMPLEMENTATION, TrainingModel
from xft.objectives import next_token
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDeviceConfig
from xft.training.loop import TrainLoop
from xft.types import IGNORE_INDEX, Sample

VOCABULARY = 97
LENGTHS = [9, 4, 17, 6, 11, 5, 23, 8, 3, 14, 7, 19, 10, 31, 6, 12]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Sixteen samples of which 1 to 28 tokens are trained."""
    generator = np.random.default_rng(1)
    out = []
    for number, length in enumerate(LENGTHS):
        ids = generator.integers(3, VOCABULARY, length).astype(np.int32)
        labels = ids.copy()
        labels[: 2 + number % max(1, length - 3)] = IGNORE_INDEX
        out.append(Sample(ids, labels))
    assert len({each.num_targets for each in out}) > 8
    return out


class Recorder(torch.optim.Optimizer):
    """Keeps the gradients that it is given, and changes nothing."""

    def __init__(self, model: nn.Module) -> None:
        self.names = [name for name, each in model.named_parameters() if each.requires_grad]
        super().__init__([each for each in model.parameters() if each.requires_grad], {"lr": 0.0})
        self.gradients: list[dict[str, Tensor]] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        weights = self.param_groups[0]["params"]
        self.gradients.append(
            {name: each.grad.clone() for name, each in zip(self.names, weights, strict=True)}
        )


def _model(full: bool = False, dropout: float = 0.0, checkpointing: bool = False) -> Any:
    torch.manual_seed(0)
    config = tiny_config("llama", VOCABULARY)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=ATTN_IMPLEMENTATION)
    if not full:
        lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear")
        model = get_peft_model(model, lora)
        for name, each in model.named_parameters():
            if "lora_B" in name:  # zero at first, which would hide the gradient of A
                nn.init.normal_(each, std=0.1)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _one_step(
    tmp_path: Any,
    samples: list[Sample],
    model: Any,
    collator: Collator | None = None,
    **portions: Any,
) -> tuple[float, dict[str, Tensor], dict[str, Any]]:
    """One optimizer step over all samples. Returns its loss, its gradients and the loop's record."""
    plan = TrainingPlan(EpochBatchSampler(tuple(map(len, samples)), **portions), 1, (), "")
    assert plan.batches.steps_per_epoch == 1
    strategy = SingleDeviceConfig(device="cpu").build(str(tmp_path), seed=0)
    optimizer = Recorder(model)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(TrainingModel(model, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    records: list[dict[str, Any]] = []

    def call_hook(name: str, **values: Any) -> None:
        if name == "after_train_iter":
            records.append(values["outputs"])

    loop = TrainLoop(
        SimpleNamespace(call_hook=call_hook), strategy, samples, plan, None, collator or Collator()
    )
    torch.manual_seed(5)  # of the dropout
    loop.run()
    return records[0]["loss"], optimizer.gradients[0], records[0]


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_accumulation_changes_nothing(tmp_path: Any, samples: list[Sample], full: bool) -> None:
    """1 x 16, 4 x 4 and 16 x 1: equal up to the order of sums, though the micro-batches have
    between 1 and 28 trained tokens. A mean of means would be off by tens of percent."""
    found = {
        (size, 16 // size): _one_step(
            tmp_path, samples, _model(full), micro_batch_size=size, gradient_accumulation_steps=16 // size
        )
        for size in (1, 4, 16)
    }
    loss, gradients, record = found[16, 1]
    assert record["target_tokens"] == sum(each.num_targets for each in samples)
    for other in (found[1, 16], found[4, 4]):
        assert other[0] == pytest.approx(loss, rel=TINY_MODEL_FP32)
        assert relative_distance(other[1], gradients) < TINY_MODEL_FP32
        assert other[2]["grad_norm"] == pytest.approx(record["grad_norm"], rel=TINY_MODEL_FP32)


def test_a_mean_of_means_would_be_seen(tmp_path: Any, samples: list[Sample]) -> None:
    """What the test above would find if each micro-batch had the same weight: the bound is not so wide
    that the mistake fits through."""
    _, right, _ = _one_step(tmp_path, samples, _model(), micro_batch_size=16)
    model = _model()
    wrong: dict[str, Tensor] = {}
    for each in samples:
        model.zero_grad()
        ids, labels = (torch.from_numpy(x.astype(np.int64))[None] for x in (each.input_ids, each.labels))
        model(input_ids=ids, labels=labels).loss.backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                wrong[name] = wrong.get(name, 0) + weight.grad / len(samples)
    assert relative_distance(wrong, right) > 0.05 > 1000 * TINY_MODEL_FP32


@pytest.mark.parametrize("capacity", [31, 64, 200])
def test_packed_is_unpacked(tmp_path: Any, samples: list[Sample], capacity: int) -> None:
    """Rows of whole samples against one sample a row, and against padding with plain eager attention.

    Equal up to the order of sums; eager attention also adds over padding."""
    packed = _one_step(tmp_path, samples, _model(), pack_length=capacity, gradient_accumulation_steps=16)
    alone = _one_step(tmp_path, samples, _model(), gradient_accumulation_steps=16)
    assert packed[2]["tokens"] == alone[2]["tokens"] == sum(LENGTHS)
    assert packed[0] == pytest.approx(alone[0], rel=TINY_MODEL_FP32)
    assert relative_distance(packed[1], alone[1]) < TINY_MODEL_FP32
    eager = _model()
    eager.set_attn_implementation("eager")
    padded = _one_step(tmp_path, samples, eager, Collator(1, "padded", 0), micro_batch_size=16)
    assert packed[0] == pytest.approx(padded[0], rel=TINY_MODEL_FP32)
    assert relative_distance(packed[1], padded[1]) < TINY_MODEL_FP32


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_nothing(
    tmp_path: Any, samples: list[Sample], dropout: float
) -> None:
    """The same operations are done twice, with the same random numbers: bit-equal."""
    portions = {"micro_batch_size": 4, "gradient_accumulation_steps": 4}
    off = _one_step(tmp_path, samples, _model(dropout=dropout), **portions)
    on = _one_step(tmp_path, samples, _model(dropout=dropout, checkpointing=True), **portions)
    assert on[0] == off[0]
    assert all(torch.equal(on[1][name], each) for name, each in off[1].items())
    if dropout:
        assert off[0] != _one_step(tmp_path, samples, _model(), **portions)[0]
