"""Training, optimizer and schedulers of XTuner."""

from typing import Any

import pytest
from helpers.xtuner_config import HEAD, LORA

from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.xtuner import import_xtuner

FULL = "model = dict(type=SupervisedFinetune, llm=llm)\n"


def read(end: str, model: str = LORA) -> Draft:
    draft = import_xtuner(HEAD + model + end, "c.py")
    assert draft.unexplained == []
    return draft


def test_the_training_has_the_values_of_the_config() -> None:
    config = read("").finish()
    assert config["training"] == {
        "micro_batch_size": 2,
        "epochs": 2.0,
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 1.0,
    }
    assert config["optimizer"] == {"type": "adamw", "lr": 1e-4, "weight_decay": 0.0}
    assert config["lr_scheduler"] == {"type": "cosine", "warmup_ratio": pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("end", "path", "value"),
    [
        ("optim_wrapper['optimizer'] = dict(type=AdamW)\n", "optimizer", {"type": "adamw", "lr": 1e-3, "weight_decay": 0.01}),
        ("optim_wrapper['optimizer'] = dict(type=SGD, lr=0.1)\n", "optimizer", {"type": "adamw", "lr": 0.1}),
        ("optim_wrapper['clip_grad'] = None\n", "training.max_grad_norm", None),
        ("train_cfg = dict(max_iters=9)\n", "training.max_steps", 9),
        ("param_scheduler = []\n", "lr_scheduler", {"type": "constant", "warmup_steps": 0}),
        ("param_scheduler = dict(type=ConstantLR, factor=1)\n", "lr_scheduler", {"type": "constant", "warmup_steps": 0}),
        ("param_scheduler = dict(type=LinearLR, start_factor=1, end_factor=0)\n", "lr_scheduler", {"type": "linear", "warmup_steps": 0}),
        ("param_scheduler = dict(type=CosineAnnealingLR, eta_min=1e-5)\n", "lr_scheduler.min_lr_ratio", pytest.approx(0.1)),
        ("param_scheduler[0]['by_epoch'] = False\n", "lr_scheduler.warmup_ratio", pytest.approx(0.1)),
        ("param_scheduler = dict(type=LinearLR, by_epoch=False, end=30)\n", "lr_scheduler.warmup_steps", 30),
        ("sequence_parallel_size = 2\n", "strategy", {"type": "ddp", "sequence_parallel_size": 2}),
    ],
)  # fmt: skip
def test_keys_have_their_place(end: str, path: str, value: Any) -> None:
    assert read(end).get(path) == value


def test_gradients_that_are_not_clipped_stay_so() -> None:
    assert read("optim_wrapper['clip_grad'] = None\n").has("training.max_grad_norm")


def test_full_training_keeps_fp32_weights_under_autocast() -> None:
    draft = read("sequence_parallel_size = 2\n", FULL)
    assert draft.get("model.dtype") == "float32"
    assert draft.get("strategy") == {"type": "ddp", "sequence_parallel_size": 2, "mixed_precision": "bf16"}


@pytest.mark.parametrize(
    ("end", "key", "kind"),
    [
        ("", "optim_wrapper.optimizer.type", TAKEN),
        ("optim_wrapper['optimizer'] = dict(type=SGD, lr=0.1, momentum=0.9)\n", "optim_wrapper.optimizer.type", CHANGED),
        ("optim_wrapper['optimizer'] = dict(type=SGD, lr=0.1, momentum=0.9)\n", "optim_wrapper.optimizer.momentum", MISSING),
        ("optim_wrapper['optimizer']['lr'] = rate()\n", "optim_wrapper.optimizer.lr", MISSING),
        ("param_scheduler = dict(type=ConstantLR)\n", "param_scheduler", CHANGED),
        ("param_scheduler = make()\n", "param_scheduler", MISSING),
        ("param_scheduler = dict(type=PolyLR, power=2)\n", "param_scheduler.power", MISSING),
        ("optim_wrapper['paramwise_cfg'] = dict(a=1)\n", "optim_wrapper.paramwise_cfg", MISSING),
    ],
)  # fmt: skip
def test_what_differs_and_what_is_missing_is_listed(end: str, key: str, kind: str) -> None:
    entries = [(key, entry.kind) for entry in read(end).entries for key in entry.keys]
    assert (key, kind) in entries
