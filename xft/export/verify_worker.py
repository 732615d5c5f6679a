"""What a saved model says, looked at by a process that has never seen the live one.

``xft.export.verify_subprocess`` starts it with a folder that holds ``wanted.json``; what is found is left
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
from xft.export.adapter_norms import adapter_norms, trains_more
from xft.models import open_artifact
from xft.models.reward_head import is_reward_model
from xft.templates import BoundTemplate
from xft.types import Message

PROBE = "What is the capital of France, and what do you know about it? Say it in one sentence, please."
ANSWERS = (
    "Paris is the capital of France; it lies on the Seine and is known for its museums.",
    "Paris.",
    "The capital of France is London, which has nine million people and a river called the Thames.",
    "I do not know.",
    "Well, that is a good question, and there is much that one could say about it. France has a capital, "
    "as most countries do, and many people have been there; but let me begin with something else.",
    "paris paris paris paris",
)
"""Of all kinds and lengths, for a reward model to score."""
NO_MEMORY = 75
"""The exit code that says that a second model had no room, which says nothing about the saved one."""


@dataclass(frozen=True)
class Wanted:
    """What to look at.

    Attributes:
        path: of the saved model.
        rows: tokens to give logits for: one row; of a reward model several, each of which gets a score.
        moment: the date, as ISO 8601 has it, for a chat template that writes one; ``None`` where the
            model has no chat template to render ``PROBE`` with.
        device: where the model goes.
        trust_remote_code: run Python code that lies beside the weights.
    """

    path: str
    rows: Sequence[Sequence[int]]
    moment: str | None
    device: str = "cpu"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        texts: ``probe_texts``, as the saved template renders them.
        rows: the tokens that the saved tokenizer makes of each.
        stop_ids: at which an answer ends, as the saved generation config has it.
        norms: of the adapter, by layer; empty where there is none.
        also_trained: whether the adapter has more than its A and B: whole layers, or new tokens.
        logits: as in ``logits_of``.
    """

    texts: list[str]
    rows: list[list[int]]
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
    template = None
    if wanted.moment is not None:
        moment = datetime.fromisoformat(wanted.moment)
        template = BoundTemplate(saved.tokenizer, str(saved.tokenizer.chat_template), moment)
    texts = probe_texts(template, is_reward_model(saved.model))
    return Found(
        texts=texts,
        rows=[list(saved.tokenizer(each, add_special_tokens=False)["input_ids"]) for each in texts],
        stop_ids=_stop_ids(Path(wanted.path)),
        norms=adapter_norms(saved.model),
        also_trained=trains_more(saved.model),
        logits=logits_of(saved.model, wanted.rows),
    )


def probe_texts(template: BoundTemplate | None, scored: bool) -> list[str]:
    """What models are run on: ``PROBE``, up to where the answer begins; or with each of ``ANSWERS``.

    Args:
        template: of the model; ``None`` for raw text.
        scored: whether it is for a reward model, which wants answers.
    """
    asked = Message("user", PROBE)
    if template is None:
        return [f"{PROBE} {each}" for each in ANSWERS] if scored else [PROBE]
    if scored:
        return [template.render([asked, Message("assistant", each)]) for each in ANSWERS]
    return [template.render([asked], generation=True)]


def logits_of(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Logits in fp32 on the host, in evaluation mode, without a gradient, as transformers gives them.

    Args:
        model: of transformers or peft.
        rows: tokens: one row; for a reward model at least two, which are padded.

    Returns:
        ``(1, seq, vocabulary)``. Of a reward model ``(1, pairs, 2)``, the scores of each two rows:
        they are the logits of a choice between the two, as Bradley and Terry have it.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            if not is_reward_model(model):
                ids = torch.tensor([list(each) for each in rows], device=device)
                return model(input_ids=ids, use_cache=False).logits.float().cpu()
            scores = model(**_padded(rows, model, device), use_cache=False).logits
            return torch.combinations(scores[:, 0].float().cpu(), 2)[None]
    finally:
        model.train(training)


def _padded(rows: Sequence[Sequence[int]], model: Any, device: torch.device) -> dict[str, Tensor]:
    pad = model.config.get_text_config().pad_token_id
    width = max(len(each) for each in rows)
    ids = [[*each, *[pad] * (width - len(each))] for each in rows]
    mask = [[1] * len(each) + [0] * (width - len(each)) for each in rows]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


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
    from xft.utils import console

    console.silence_libraries()
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
