"""From a run to a Hugging Face folder."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from xft.errors import ConfigError
from xft.export.verify import PROBE, Comparison, compare, logits_of, verify_artifact
from xft.models import LoadedModel, Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.adapters import load_adapter, merge
from xft.models.load import choose_dtype, load_weights, resize_embeddings
from xft.models.quantization import NF4, Int8
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
    trust_remote_code: bool = False,
) -> Comparison:
    """Write a run, a checkpoint or an adapter as plain ``peft`` or ``transformers`` reads it.

    Args:
        source: what to export.
        out: a folder that does not exist yet, or is empty.
        merged: fold an adapter into its base and write a whole model.
        dtype: of the weights that are written; by default as in training.
        max_shard_size: of a file of weights.
        trust_remote_code: run Python code that lies beside the weights.

    Returns:
        How near what was written is to what was opened.

    Raises:
        ConfigError: ``out`` is in use, or ``source`` cannot be written in that way.
        CheckpointError: what was written does not give what was opened.
    """
    target = Path(out).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"OUT: {out} exists and is not empty; choose another folder")
    note = read_note(find_artifact(Path(source)))
    # Whatever dtype is wished for is loaded, never cast to: casting a model as a whole would round
    # buffers too, the frequencies of its rotary embedding among them.
    loaded = open_artifact(source, dtype=None if merged else dtype, trust_remote_code=trust_remote_code)
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
            comparison = _write_merged(source, made, loaded, template, note, dtype, max_shard_size)
        else:
            comparison = _write_plain(made, loaded, template, note, max_shard_size)
        if target.exists():
            target.rmdir()
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return comparison


def _write_plain(
    made: Path, loaded: LoadedModel, template: BoundTemplate | None, note: Note | None, max_shard_size: str
) -> Comparison:
    dtype = _type_name(loaded.base.dtype)
    note = replace(note or Note(_name(loaded), dtype), dtype=dtype)
    save_artifact(loaded.model, loaded.tokenizer, template, note, made, max_shard_size=max_shard_size)
    return verify_artifact(made, loaded.model, loaded.tokenizer, template, torch.device("cpu"))


def _write_merged(
    source: str,
    made: Path,
    loaded: LoadedModel,
    template: BoundTemplate | None,
    note: Note | None,
    dtype: str | None,
    max_shard_size: str,
) -> Comparison:
    """Merge into plain weights, and compare with the adapter on the base that it was trained on."""
    probe = _probe(loaded, template)
    expected = logits_of(loaded.model, probe)
    device = torch.device("cpu")
    wanted = choose_dtype(dtype or (note.dtype if note is not None else "auto"), device)
    whole: Any = merge(_on_plain_base(source, loaded, note, wanted))
    whole.config.use_cache = True
    save_artifact(
        whole,
        loaded.tokenizer,
        template,
        Note(_name(loaded), _type_name(wanted)),
        made,
        max_shard_size=max_shard_size,
    )
    verify_artifact(made, whole, loaded.tokenizer, template, device)
    return compare(expected, logits_of(whole, probe), MERGE_TOLERANCE, f"{source}: the merged model")


def _on_plain_base(source: str, loaded: LoadedModel, note: Note | None, dtype: torch.dtype) -> Any:
    """The adapter on a base that is not quantised, in the type that is written.

    A quantised base is dequantised, not replaced by the original weights: the adapter has learnt to
    make up for the rounding of the base that it was trained on.
    """
    if note is None or note.bits is None:
        same = loaded.base.dtype == dtype
        return loaded.model if same else open_artifact(source, dtype=_type_name(dtype)).model
    base: Any = load_weights(
        note.base,
        choose_dtype(note.dtype, torch.device("cpu")),
        quantization=NF4(note.double) if note.bits == 4 else Int8(),
        device=torch.device("cpu"),
    )
    base = base.dequantize(dtype)
    resize_embeddings(base, loaded.tokenizer)
    return load_adapter(base, find_artifact(Path(source)))


def _name(loaded: LoadedModel) -> str:
    return str(loaded.base.name_or_path)


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _probe(loaded: LoadedModel, template: BoundTemplate | None) -> torch.Tensor:
    text = PROBE
    if template is not None:
        text = template.render([Message("user", text)], generation=True)
    return torch.tensor([loaded.tokenizer(text, add_special_tokens=False)["input_ids"]])


def _template(loaded: LoadedModel) -> BoundTemplate | None:
    source = loaded.tokenizer.chat_template
    return BoundTemplate(loaded.tokenizer, source) if isinstance(source, str) else None
