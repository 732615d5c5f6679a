"""Load a saved model in a process that has never seen the live one, and record its outputs.

``xft.export.verify.launcher`` starts this module with a folder that contains ``request.json``; the
outputs are written there as ``result.json`` and ``logits.safetensors``.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xft.errors import XftError, is_out_of_memory
from xft.export.verify.adapter_norms import adapter_norms, trains_other_params
from xft.models import load_saved_model
from xft.models.reward_head import is_reward_model
from xft.templates import BoundTemplate
from xft.types import Message

PROBE_PROMPT = (
    "What is the capital of France, and what do you know about it? Say it in one sentence, please."
)
PROBE_ANSWERS = (
    "Paris is the capital of France; it lies on the Seine and is known for its museums.",
    "Paris.",
    "The capital of France is London, which has nine million people and a river called the Thames.",
    "I do not know.",
    "Well, that is a good question, and there is much that one could say about it. France has a capital, "
    "as most countries do, and many people have been there; but let me begin with something else.",
    "paris paris paris paris",
)
"""Answers of several lengths and qualities for a reward model to score."""
EXIT_OUT_OF_MEMORY = 75
"""Exit code for a lack of memory, which proves nothing about the saved model."""


@dataclass(frozen=True)
class VerifyRequest:
    """Model to load and inputs to run it on.

    Attributes:
        path: of the saved model.
        input_ids: token ids: one row; for a reward model several, each of which is scored.
        now: date in ISO 8601 for chat templates that render one; ``None`` if the model has no chat
            template.
        device: of the model.
        trust_remote_code: run Python code of the model's folder.
    """

    path: str
    input_ids: Sequence[Sequence[int]]
    now: str | None
    device: str = "cpu"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class VerifyResult:
    """Outputs of a saved model.

    Attributes:
        texts: ``probe_texts`` as rendered by the saved template.
        input_ids: token ids of each text by the saved tokenizer.
        stop_ids: stop tokens in the saved generation config.
        adapter_norms: ``‖ΔW‖`` by layer; empty without an adapter.
        trains_other_params: whether the adapter contains parameters besides A and B.
        logits: result of ``compute_logits``.
    """

    texts: list[str]
    input_ids: list[list[int]]
    stop_ids: list[int]
    adapter_norms: dict[str, float]
    trains_other_params: bool
    logits: Tensor


def inspect_saved_model(request: VerifyRequest) -> VerifyResult:
    """Load a saved model and record its outputs.

    Raises:
        XftError: it cannot be loaded.
    """
    saved = load_saved_model(
        request.path, device=torch.device(request.device), trust_remote_code=request.trust_remote_code
    )
    template = None
    if request.now is not None:
        now = datetime.fromisoformat(request.now)
        template = BoundTemplate(saved.tokenizer, str(saved.tokenizer.chat_template), now)
    texts = probe_texts(template, is_reward_model(saved.model))
    return VerifyResult(
        texts=texts,
        input_ids=[list(saved.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts],
        stop_ids=_stop_ids(Path(request.path)),
        adapter_norms=adapter_norms(saved.model),
        trains_other_params=trains_other_params(saved.model),
        logits=compute_logits(saved.model, request.input_ids),
    )


def probe_texts(template: BoundTemplate | None, scored: bool) -> list[str]:
    """Return the inputs of the comparison: the probe prompt, or one text per probe answer.

    Args:
        template: chat template of the model; ``None`` for raw text.
        scored: whether the model is a reward model, which reads answers.
    """
    prompt = Message("user", PROBE_PROMPT)
    if template is None:
        return [f"{PROBE_PROMPT} {answer}" for answer in PROBE_ANSWERS] if scored else [PROBE_PROMPT]
    if scored:
        return [template.render([prompt, Message("assistant", answer)]) for answer in PROBE_ANSWERS]
    return [template.render([prompt], generation=True)]


def compute_logits(model: nn.Module, input_ids: Sequence[Sequence[int]]) -> Tensor:
    """Compute logits in eval mode without gradients, as fp32 on the CPU.

    Args:
        model: of transformers or peft.
        input_ids: one row; for a reward model at least two rows, which are padded.

    Returns:
        Logits ``(1, seq, vocab)``. For a reward model ``(1, pairs, 2)``: the scores of each pair of
        rows, which are the logits of a Bradley-Terry choice between the two.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            if not is_reward_model(model):
                ids = torch.tensor([list(row) for row in input_ids], device=device)
                return model(input_ids=ids, use_cache=False).logits.float().cpu()
            scores = model(**_pad(input_ids, model, device), use_cache=False).logits
            return torch.combinations(scores[:, 0].float().cpu(), 2)[None]
    finally:
        model.train(training)


def _pad(input_ids: Sequence[Sequence[int]], model: Any, device: torch.device) -> dict[str, Tensor]:
    pad = model.config.get_text_config().pad_token_id
    rows = [torch.tensor(row, device=device) for row in input_ids]
    return {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
    }


def write_result(result: VerifyResult, folder: Path) -> None:
    """Write a result to files that ``read_result`` reads."""
    save_file({"logits": result.logits.contiguous()}, folder / "logits.safetensors")
    rest = {key: value for key, value in vars(result).items() if key != "logits"}
    (folder / "result.json").write_text(json.dumps(rest), encoding="utf-8")


def read_result(folder: Path) -> VerifyResult:
    """Read the files of ``write_result``.

    Raises:
        OSError: a file is missing.
    """
    rest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return VerifyResult(logits=load_file(folder / "logits.safetensors")["logits"], **rest)


def write_request(request: VerifyRequest, folder: Path) -> None:
    """Write a request for a process that is started with ``folder``."""
    (folder / "request.json").write_text(json.dumps(asdict(request)), encoding="utf-8")


def _stop_ids(folder: Path) -> list[int]:
    file = folder / "generation_config.json"
    ids = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    return [ids] if isinstance(ids, int) else list(ids or [])


def main(folder: Path) -> int:
    """Process ``folder/request.json`` and return the exit code."""
    from xft.utils import console

    console.silence_libraries()
    os.nice(5)  # training has priority
    try:
        request = VerifyRequest(**json.loads((folder / "request.json").read_text(encoding="utf-8")))
        write_result(inspect_saved_model(request), folder)
    except (XftError, MemoryError, torch.OutOfMemoryError) as error:
        console.echo(str(error) or type(error).__name__, error=True)
        return EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else 1
    return 0
