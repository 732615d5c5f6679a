"""From a run to a Hugging Face folder."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from xft.errors import ConfigError
from xft.export.verify import compare, logits_of, verify_artifact
from xft.models import LoadedModel, Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.adapters import load_adapter, merge
from xft.models.load import choose_dtype, resize_embeddings
from xft.templates import BoundTemplate
from xft.types import Message

MERGE_TOLERANCE = 0.05
"""How far the logits of a merged model may be from those with the adapter, as a share of the
largest: folding the update into 16-bit weights rounds it."""


def convert(
    source: str,
    out: str,
    merged: bool = False,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
) -> float:
    """Write a run, a checkpoint or an adapter as plain ``peft`` or ``transformers`` reads it.

    Args:
        source: what to export.
        out: a folder that does not exist yet, or is empty.
        merged: fold an adapter into its base and write a whole model.
        dtype: of the weights that are written; by default as in training.
        max_shard_size: of a file of weights.

    Returns:
        The largest difference of a logit between what was opened and what was written.

    Raises:
        ConfigError: ``out`` is in use, or ``source`` cannot be written in that way.
        CheckpointError: what was written does not give what was opened.
    """
    target = Path(out).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"OUT: {out} exists and is not empty; choose another folder")
    folder = find_artifact(Path(source))
    note = read_note(folder)
    loaded = open_artifact(source)
    if merged and not isinstance(loaded.model, PeftModel):
        raise ConfigError(f"--merge: {source} is a whole model already; leave --merge out")
    if dtype is not None and not merged and isinstance(loaded.model, PeftModel):
        raise ConfigError("--dtype: an adapter is exported as it is; --merge makes a whole model of it")
    template = _template(loaded)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise ConfigError(f"OUT: cannot make {out} ({error.strerror})") from error
    made.chmod(0o755)
    try:
        if merged:
            difference = _write_merged(source, made, loaded, template, note, dtype, max_shard_size)
        else:
            difference = _write_plain(made, loaded, template, note, dtype, max_shard_size)
        if target.exists():
            target.rmdir()
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return difference


def _write_plain(
    made: Path,
    loaded: LoadedModel,
    template: BoundTemplate | None,
    note: Note | None,
    dtype: str | None,
    max_shard_size: str,
) -> float:
    device = torch.device("cpu")
    model: Any = loaded.model
    if dtype is not None:
        model = model.to(choose_dtype(dtype, device))
    note = note or Note(str(loaded.base.name_or_path), str(model.dtype).removeprefix("torch."))
    if dtype is not None:
        note = replace(note, dtype=str(model.dtype).removeprefix("torch."))
    save_artifact(model, loaded.tokenizer, template, note, made, max_shard_size=max_shard_size)
    return verify_artifact(made, model, loaded.tokenizer, template, device)


def _write_merged(
    source: str,
    made: Path,
    loaded: LoadedModel,
    template: BoundTemplate | None,
    note: Note | None,
    dtype: str | None,
    max_shard_size: str,
) -> float:
    """Merge into plain weights. A quantised base is dequantised first, so that what is written
    is what was trained: the adapter has learnt to make up for the rounding of that base."""
    probe = _probe(loaded, template)
    expected = logits_of(loaded.model, probe)
    device = torch.device("cpu")
    wanted = choose_dtype(dtype or (note.dtype if note is not None else "auto"), device)
    adapted: Any = loaded.model
    if note is not None and note.bits is not None:
        base: Any = open_artifact(note.base, bits=note.bits, dtype=note.dtype).model
        base = base.dequantize(wanted)
        resize_embeddings(base, loaded.tokenizer)
        adapted = load_adapter(base, find_artifact(Path(source)))
    whole: Any = merge(adapted.to(wanted))
    whole.config.use_cache = True
    merged_note = Note(str(loaded.base.name_or_path), str(wanted).removeprefix("torch."))
    save_artifact(whole, loaded.tokenizer, template, merged_note, made, max_shard_size=max_shard_size)
    verify_artifact(made, whole, loaded.tokenizer, template, device)
    return compare(expected, logits_of(whole, probe), MERGE_TOLERANCE, f"{source}: the merged model")


def _probe(loaded: LoadedModel, template: BoundTemplate | None) -> torch.Tensor:
    text = "What is xft, and how is a run started?"
    if template is not None:
        text = template.render([Message("user", text)], generation=True)
    return torch.tensor([loaded.tokenizer(text, add_special_tokens=False)["input_ids"]])


def _template(loaded: LoadedModel) -> BoundTemplate | None:
    source = loaded.tokenizer.chat_template
    return BoundTemplate(loaded.tokenizer, source) if isinstance(source, str) else None
