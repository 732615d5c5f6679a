"""Optimizers, compared with the libraries that implement them."""

import inspect
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from helpers.tolerances import assert_close_sums, tolerance
from peft.optimizers import create_loraplus_optimizer

from xft.errors import ConfigError
from xft.models import LoRA
from xft.optim import (
    adamw,
    adamw_8bit,
    build_optimizer,
    cosine,
    muon,
    paged_adamw_8bit,
    param_groups,
    schedule_free_adamw,
    to_train_mode,
)


def _model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))


def _train(model: Any, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        model(torch.randn(8, 6, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [each.detach().clone() for each in model.parameters()]


def test_adamw_matches_torch_and_decays_matrices_only() -> None:
    """One pass over all weights against torch's own loop over them, each with its decay."""
    ours, theirs = _model(), _model()
    got = _train(ours, adamw(param_groups(ours), lr=1e-2, weight_decay=0.3))
    matrices = [each for each in theirs.parameters() if each.ndim == 2]
    vectors = [each for each in theirs.parameters() if each.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    expected = _train(theirs, torch.optim.AdamW(groups, lr=1e-2, foreach=False, fused=False))
    for one, two in zip(got, expected, strict=True):
        assert_close_sums(one, two, tolerance(torch.float32, 5 * 10))  # five steps of ten operations


def test_muon_first_step_is_orthogonal_with_rms_of_adamw() -> None:
    """The first step from zero momentum: all singular values nearly alike, each entry 0.2 of the rate (RMS)."""
    weight = torch.nn.Parameter(torch.zeros(16, 16))
    optimizer = muon([{"params": [weight]}], lr=1e-2)
    weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    values = torch.linalg.svdvals(weight.detach())
    assert values.max() < 2 * values.min()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.2)


def test_muon_with_vectors_raises() -> None:
    with pytest.raises(ConfigError) as error:
        muon(param_groups(_model()))
    assert (error.value.key, error.value.got) == ("optimizer.type", "muon")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def _adapted(saved: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    return load_model(saved, LoRA(r=4, **options))


@pytest.mark.parametrize("dora", [False, True])
def test_build_optimizer_loraplus_matches_peft(saved: Path, dora: bool) -> None:
    """And trains to the same weights; with DoRA there are vectors too, which peft lets decay and xft does not."""
    ours, theirs = (_adapted(saved, use_dora=dora, loraplus_lr_ratio=16) for _ in range(2))
    decay = 0.0 if dora else 0.3
    optimizer = build_optimizer(
        lambda groups: adamw(groups, lr=1e-4, weight_decay=decay), ours, loraplus_lr_ratio=16
    )
    reference = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16, loraplus_weight_decay=decay
    )
    rates = []
    for model, each in ((ours, optimizer), (theirs, reference)):
        names = {id(weight): name for name, weight in model.named_parameters()}
        rates.append(
            {names[id(weight)]: group["lr"] for group in each.param_groups for weight in group["params"]}
        )
    assert rates[0] == rates[1]
    assert set(rates[0].values()) == {1e-4, 16e-4}
    assert optimizer.param_groups[0]["lr"] == 1e-4  # what is recorded is the rate of A
    ids = torch.arange(5, 35)[None]
    for model, each in ((ours, optimizer), (theirs, reference)):
        model.train()
        for _ in range(4):
            model(input_ids=ids, labels=ids).loss.backward()
            each.step()
            each.zero_grad()
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Four steps of at most the learning rate; AdamW turns rounding of a tiny gradient into a share of one.
        torch.testing.assert_close(one, two, rtol=1e-5, atol=0.01 * 4 * 16e-4, msg=name)


def test_build_optimizer_loraplus_ratio_holds_through_warmup_under_any_optimizer(saved: Path) -> None:
    for make in (muon, torch.optim.SGD, schedule_free_adamw, torch.optim.Adafactor):
        optimizer = build_optimizer(lambda groups, make=make: make(groups, lr=1e-2), _adapted(saved), 8)
        lr_scheduler = cosine(optimizer, num_steps=10, warmup_steps=4)
        to_train_mode(optimizer)
        for step in range(9):
            optimizer.step()
            a, b = (group["lr"] for group in optimizer.param_groups)
            assert b == pytest.approx(8 * a)
            assert (a == pytest.approx(1e-2)) == (step == 4)
            lr_scheduler.step()


@pytest.mark.parametrize(
    ("make", "kind"),
    [(adamw_8bit, "AdamW8bit"), (paged_adamw_8bit, "PagedAdamW8bit")],
    ids=["8bit", "paged"],
)
def test_8bit_optimizers_are_those_of_bitsandbytes(
    monkeypatch: pytest.MonkeyPatch, make: Any, kind: str
) -> None:
    """Without a GPU they raise an error. The optimizer that a GPU would get is built here, without a step."""
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError) as error:
            make(_model().parameters())
        assert (error.value.key, error.value.got) == ("optimizer.type", make.__name__)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    optimizer = make(param_groups(_model()), lr=3e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2)
    assert type(optimizer) is getattr(bitsandbytes.optim, kind)
    assert optimizer.is_paged == kind.startswith("Paged")
    assert optimizer.args.optim_bits == 8
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0]
    for group in groups:
        assert (group["lr"], tuple(group["betas"]), group["eps"]) == (3e-3, (0.8, 0.9), 1e-6)


@pytest.mark.parametrize("optimizer", [adamw, adamw_8bit, paged_adamw_8bit])
def test_adamw_variants_share_one_signature(optimizer: Any) -> None:
    assert inspect.signature(optimizer) == inspect.signature(adamw)
    assert list(inspect.signature(optimizer).parameters) == ["params", "lr", "betas", "eps", "weight_decay"]
