"""Training steps on a GPU, against the same steps on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, whole_model
from helpers.tolerances import TINY_MODEL_FP32, relative_distance

from xft.cli import main
from xft.data import collate_padding_free
from xft.models import TrainingModel
from xft.objectives import DPO, ORPO, next_token


def step(model: Any, objective: Any, device: torch.device) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of one batch."""
    trained = TrainingModel(model, objective).to(device).train()
    output = trained(collate_padding_free(pair_samples()).to(device))
    output.loss_sum.backward()
    grads = {
        name: weight.grad.cpu() for name, weight in model.named_parameters() if weight.grad is not None
    }
    return float(output.loss_sum), grads


@pytest.mark.parametrize(
    ("make", "objective"),
    [
        (adapted_model, next_token),
        (adapted_model, DPO()),
        (adapted_model, ORPO()),
        (whole_model, next_token),
        (whole_model, ORPO()),
    ],
)
def test_loss_and_gradients_are_those_of_the_cpu(gpu: torch.device, make: Any, objective: Any) -> None:
    loss, grads = step(make(), objective, torch.device("cpu"))
    loss_there, grads_there = step(make(), objective, gpu)
    assert loss_there == pytest.approx(loss, rel=TINY_MODEL_FP32)
    assert relative_distance(grads_there, grads) < 2 * TINY_MODEL_FP32


@pytest.mark.parametrize("objective", [next_token, ORPO()], ids=["sft", "orpo"])
def test_forward_and_backward_do_not_wait_for_the_gpu(gpu: torch.device, objective: Any) -> None:
    model = TrainingModel(adapted_model(), objective).to(gpu).train()
    batch = collate_padding_free(pair_samples()).to(gpu)
    model(batch).loss_sum.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(batch).loss_sum.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "overrides",
    [
        ["adapter=dict(type='lora', r=8)"],
        ["adapter=dict(type='lora', r=8)", "quantization=dict(type='nf4')"],
        ["adapter=None", "model.dtype='float32'", "strategy.mixed_precision='bf16'"],
        ["adapter=dict(type='lora', r=8)", "model.torch_compile=True"],
    ],
    ids=["lora", "qlora", "full", "compiled"],
)
def test_run_on_a_gpu_is_saved_and_verified(
    gpu: torch.device, tmp_path: Path, overrides: list[str]
) -> None:
    """The command itself: it exits with an error if the reloaded model differs from the live one."""
    command = ["train", "smollm2_lora", "--work-dir", str(tmp_path / "run"), "training.max_steps=6"]
    assert main([*command, *overrides]) == 0
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
