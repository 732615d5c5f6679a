"""What a saved model says, looked at by a process that has never seen the live one.

``xft.export.process`` starts it with a folder that holds ``wanted.json``; what is found is left
there as ``found.json`` and ``logits.safetensors``.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xft.errors import XftError
from xft.export.norms import adapter_norms, trains_more
from xft.models import open_artifact
from xft.templates import BoundTemplate
from xft.types import Message

PROBE = "What is the capital of France, and what do you know about it? Say it in one sentence, please."
NO_MEMORY = 75
"""The exit code that says that a second model had no room, which says nothing about the saved one."""


@dataclass(frozen=True)
class Wanted:
    """What to look at.

    Attributes:
        path: of the saved model.
        ids: ``(seq,)`` tokens to give logits for.
        moment: the date, as ISO 8601 has it, for a chat template that writes one; ``None`` where the
            model has no chat template to render ``PROBE`` with.
        device: where the model goes.
        trust_remote_code: run Python code that lies beside the weights.
    """

    path: str
    ids: Sequence[int]
    moment: str | None
    device: str = "cpu"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        text: ``PROBE``, as the saved template renders it.
        ids: the tokens that the saved tokenizer makes of it.
        stop_ids: at which an answer ends, as the saved generation config has it.
        norms: of the adapter, by layer; empty where there is none.
        also_trained: whether the adapter has more than its A and B: whole layers, or new tokens.
        logits: ``(1, seq, vocabulary)`` in fp32.
    """

    text: str
    ids: list[int]
    stop_ids: list[int]
    norms: dict[str, float]
    also_trained: bool
    logits: Tensor


def look(wanted: Wanted) -> Found:
    """Open a saved model and see what it gives.

    Raises:
        XftError: it cannot be opened.
    """
    saved = open_artifact(
        wanted.path, device=torch.device(wanted.device), trust_remote_code=wanted.trust_remote_code
    )
    text = PROBE
    if wanted.moment is not None:
        moment = datetime.fromisoformat(wanted.moment)
        template = BoundTemplate(saved.tokenizer, str(saved.tokenizer.chat_template), moment)
        text = template.render([Message("user", PROBE)], generation=True)
    return Found(
        text=text,
        ids=list(saved.tokenizer(text, add_special_tokens=False)["input_ids"]),
        stop_ids=_stop_ids(Path(wanted.path)),
        norms=adapter_norms(saved.model),
        also_trained=trains_more(saved.model),
        logits=logits_of(saved.model, torch.tensor([list(wanted.ids)], device=wanted.device)),
    )


def logits_of(model: Any, batch: Tensor) -> Tensor:
    """Logits in fp32 on the host, in evaluation mode, without a gradient."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(input_ids=batch, use_cache=False).logits.float().cpu()
    finally:
        model.train(training)


def write_found(found: Found, folder: Path) -> None:
    """Leave in a folder what ``read_found`` reads."""
    save_file({"logits": found.logits.contiguous()}, folder / "logits.safetensors")
    rest = {key: value for key, value in vars(found).items() if key != "logits"}
    (folder / "found.json").write_text(json.dumps(rest), encoding="utf-8")


def read_found(folder: Path) -> Found:
    """What ``write_found`` left.

    Raises:
        OSError: there is nothing.
    """
    rest = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return Found(logits=load_file(folder / "logits.safetensors")["logits"], **rest)


def write_wanted(wanted: Wanted, folder: Path) -> None:
    """Leave in a folder what a process started there will look at."""
    (folder / "wanted.json").write_text(json.dumps(asdict(wanted)), encoding="utf-8")


def _stop_ids(folder: Path) -> list[int]:
    file = folder / "generation_config.json"
    stops = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    return [stops] if isinstance(stops, int) else list(stops or [])


def main(folder: Path) -> int:
    """Look at what ``folder/wanted.json`` says. Returns the exit code."""
    from xft import console

    console.hush_libraries()
    os.nice(5)  # the training goes first
    try:
        wanted = Wanted(**json.loads((folder / "wanted.json").read_text(encoding="utf-8")))
        write_found(look(wanted), folder)
    except (XftError, MemoryError, torch.OutOfMemoryError) as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        return NO_MEMORY if _lacks_memory(error) else 1
    return 0


def _lacks_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        error = error.__cause__
    return False
