"""Reload what was written, and compare it with the live model."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xft.errors import CheckpointError
from xft.export.adapter_norms import adapter_norms, check_learnt
from xft.export.verify_subprocess import FreshProcess, NotLookedAt
from xft.export.verify_worker import Found, Wanted, logits_of, look, probe_texts
from xft.models.generation import stop_ids
from xft.models.param_shapes import whole_bytes
from xft.models.reward_head import is_reward_model
from xft.templates import BoundTemplate
from xft.types import Tokenizer

SAME_DEVICE = 1e-3
"""How far logits may be apart, as a share of the largest. The same weights in the same type give the
same logits; a reload may choose another kernel, and another number of threads."""
OTHER_DEVICE = 5e-2
"""The same, where the reloaded model is on a CPU and the live one is not: 16-bit products are rounded
at other places. What an adapter has learnt may be smaller than that, so its norms are compared too."""
NORM_TOLERANCE = 1e-4
"""How far the norm of a layer's update may be from the live one's, as a share of it."""
TIMEOUT = 1800.0


@dataclass(frozen=True)
class Comparison:
    """How near the logits of two models are, or the scores of two reward models.

    Attributes:
        difference: the largest difference of a logit, or of a score.
        largest: the largest logit, or score.
        agreement: share of the positions at which both rank the same token first; of two answers,
            share of the choices that are the same.
        divergence: mean Kullback-Leibler divergence of a position, or of a choice, in nats.
        norms: of the adapter that was reloaded, by layer; empty where there is none.
        scored: whether they are scores.
    """

    difference: float
    largest: float
    agreement: float
    divergence: float
    norms: dict[str, float] = field(default_factory=dict)
    scored: bool = False

    @property
    def noun(self) -> str:
        """What was compared."""
        return "scores" if self.scored else "logits"

    def agreed(self, digits: int = 0) -> str:
        """The agreement, in words."""
        share = f"{self.agreement:.{digits}%}"
        if self.scored:
            return f"the same answer of two is the better one in {share} of the pairs"
        return f"the likeliest token is the same at {share} of the positions"

    def __str__(self) -> str:
        if self.difference == 0:
            return f"the {self.noun} are the same"
        return (
            f"{self.noun} differ by {self.difference:.2g} at most (the largest is {self.largest:.3g}), KL "
            f"{self.divergence:.2g} nats, {self.agreed()}"
        )


@dataclass(frozen=True)
class Expected:
    """What the live model gives, and a reloaded one must.

    Attributes:
        texts: ``probe_texts``.
        rows: their tokens.
        stop_ids: at which an answer ends; ``None`` without a template, and for a reward model.
        norms: of the adapter, by layer.
        logits: as in ``logits_of``.
        moment: at which ``texts`` were rendered; ``None`` without a template.
        scored: whether it is a reward model.
    """

    texts: list[str]
    rows: list[list[int]]
    stop_ids: list[int] | None
    norms: dict[str, float]
    logits: Tensor
    moment: str | None = None
    scored: bool = False


def expect(
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    gathered: Callable[[list[nn.Parameter]], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Expected:
    """Ask the live model, as it is now.

    Args:
        live: the model.
        tokenizer: the live one.
        template: the live one; ``None`` for raw text.
        gathered: makes weights whole that ranks have in shares; all ranks must then call this.
    """
    scored = is_reward_model(live)
    now = datetime.now()
    # The live template was bound when the run began, perhaps on another day: one of now is asked.
    fresh = None if template is None else BoundTemplate(tokenizer, template.source, now)
    texts = probe_texts(fresh, scored)
    rows = [list(tokenizer(each, add_special_tokens=False)["input_ids"]) for each in texts]
    with gathered([each for each in live.parameters() if each.requires_grad]):
        norms = adapter_norms(live)
    return Expected(
        texts,
        rows,
        None if template is None or scored else stop_ids(tokenizer, template),
        norms,
        logits_of(live, rows),
        None if template is None else now.isoformat(),
        scored,
    )


def wanted(
    folder: Path, expected: Expected, device: torch.device | str, trust_remote_code: bool = False
) -> Wanted:
    """What to look at in a saved model so that ``judge`` can compare it."""
    return Wanted(
        str(folder.absolute()),
        expected.rows,
        expected.moment,
        str(device),
        trust_remote_code,
    )


def judge(
    found: Found, expected: Expected, name: str, tolerance: float = SAME_DEVICE, learnt: bool = True
) -> Comparison:
    """Compare what a reloaded model gives with what the live one gave.

    Args:
        found: by the one who reloaded it.
        expected: of the live one.
        name: of the saved model, for messages.
        tolerance: the largest difference of logits that is allowed, as a share of the largest logit.
        learnt: whether the training is over, so that an adapter must be more than zero.

    Raises:
        CheckpointError: they differ, or the adapter is zero where it must not be.
    """
    if found.texts != expected.texts:
        raise CheckpointError(f"{name}: the saved chat template renders another text than the live one")
    if found.rows != expected.rows:
        raise CheckpointError(f"{name}: the saved tokenizer gives other tokens than the live one")
    if expected.stop_ids is not None and found.stop_ids != expected.stop_ids:
        raise CheckpointError(
            f"{name}: the saved generation config ends an answer at the tokens {found.stop_ids}, the live model at "
            f"{expected.stop_ids}"
        )
    _judge_norms(found, expected, name, learnt)
    comparison = compare(
        expected.logits, found.logits, f"{name}: the saved model", found.norms, expected.scored
    )
    if not comparison.difference <= tolerance * comparison.largest:
        raise CheckpointError(
            f"{name}: the saved model gives other {comparison.noun} than the live one ({comparison}); do not use it"
        )
    return comparison


def _judge_norms(found: Found, expected: Expected, name: str, learnt: bool) -> None:
    for layer in sorted({*found.norms, *expected.norms}):
        live, saved = expected.norms.get(layer), found.norms.get(layer)
        if live is None or saved is None or abs(live - saved) > NORM_TOLERANCE * live:
            raise CheckpointError(
                f"{name}: the adapter that was saved is not the live one (layer {layer}: ‖ΔW‖ is {saved}, the live "
                f"model's is {live}); do not use it"
            )
    if learnt:
        check_learnt(found.norms, found.also_trained, name)


def verify_artifact(
    folder: Path,
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    device: torch.device,
    tolerance: float | None = None,
    trust_remote_code: bool = False,
    fresh: bool = False,
    timeout: float = TIMEOUT,
    expected: Expected | None = None,
) -> Comparison:
    """Compare a saved model with the one in memory: tokens, template, stop tokens, adapter and logits.

    Args:
        folder: what was written.
        live: the model that was written.
        tokenizer: the live one.
        template: the live one; ``None`` for raw text.
        device: where the live model is.
        tolerance: see ``judge``; ``None`` chooses it by the devices.
        trust_remote_code: as the live model was loaded.
        fresh: whether the saved model is opened in a fresh process, which takes some seconds more,
            and cannot have anything from this one but what is in the folder.
        timeout: seconds that the fresh process may take.
        expected: of the live model, where it has been asked already.

    Raises:
        CheckpointError: they differ, or the saved model cannot be opened.
    """
    if expected is None:
        expected = expect(live, tokenizer, template)
    where = fresh_device(live, device) if fresh else device
    ask = wanted(folder, expected, where, trust_remote_code)
    found = FreshProcess(ask).result(timeout) if fresh else look_aside(ask)
    if tolerance is None:
        tolerance = tolerance_on(where, device)
    return judge(found, expected, str(folder), tolerance)


def look_aside(ask: Wanted) -> Found:
    """Open a saved model in this process, and leave the random numbers as they are: a new adapter
    draws its first weights before the saved ones replace them."""
    with torch.random.fork_rng():
        return look(ask)


def tolerance_on(where: torch.device | str, live: torch.device) -> float:
    """How far logits may be apart on one device and another."""
    return SAME_DEVICE if torch.device(where).type == live.type else OTHER_DEVICE


def fresh_device(live: nn.Module, device: torch.device, spare: float = 1.3) -> torch.device:
    """Where a second model has room: beside the live one, or else on the CPU.

    Args:
        live: the model.
        device: where it is.
        spare: how much more memory than its weights take must be free.

    Raises:
        NotLookedAt: there is no room, and its attention runs on no CPU.
    """
    if device.type != "cuda":
        return device
    size = sum(map(whole_bytes, live.parameters())) + sum(each.nbytes for each in live.buffers())
    free, _ = torch.cuda.mem_get_info(device)
    if free > spare * size + 2**30:
        return device
    config: Any = live.config
    if "flash" in str(getattr(config, "_attn_implementation", "")):
        raise NotLookedAt(
            "the saved model cannot be verified: there is no room for a second one on the GPU, and "
            "flash attention runs on no CPU"
        )
    return torch.device("cpu")


def compare(
    expected: Tensor,
    got: Tensor,
    what: str = "the model",
    norms: dict[str, float] | None = None,
    scored: bool = False,
) -> Comparison:
    """Compare logits of shape ``(batch, seq, vocabulary)``, or the choices of reward models.

    Raises:
        CheckpointError: they are not of one shape, or are no numbers.
    """
    if expected.shape != got.shape:
        raise CheckpointError(
            f"{what} gives logits of shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        )
    # Double precision: the sum over a large vocabulary would round a small divergence away.
    p, q = expected.double().log_softmax(-1), got.double().log_softmax(-1)
    found = Comparison(
        difference=float((expected - got).abs().max()),
        largest=float(expected.abs().max()),
        agreement=float((expected.argmax(-1) == got.argmax(-1)).float().mean()),
        divergence=max(0.0, float((p.exp() * (p - q)).sum(-1).mean())),
        norms=norms or {},
        scored=scored,
    )
    if not torch.isfinite(torch.tensor([found.difference, found.divergence])).all():
        raise CheckpointError(f"{what} gives logits that are no numbers; do not use it")
    return found
