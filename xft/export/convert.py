"""From a run to a Hugging Face folder."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from xft.compat.peft import PeftModel
from xft.errors import ConfigError
from xft.export.adapter_norms import adapter_norms, check_learnt, summarise, trains_more
from xft.export.card import name_of_run, write_card
from xft.export.gguf import FILE, TYPES, check_family, check_gguf, write_gguf
from xft.export.gguf_vocab import read_vocabulary
from xft.export.merge_check import NOTICEABLE, Limits, compare_merged, divergence, limits, read_probes
from xft.export.ollama import modelfile
from xft.export.verify import Comparison, verify_artifact
from xft.export.verify_worker import logits_of
from xft.models import LoadedModel, Note, find_artifact, open_artifact, read_note, save_artifact
from xft.models.adapters.lora import is_adapter, kind_of_adapter, load_adapter, merge
from xft.models.loading import choose_dtype, load_weights, resize_embeddings
from xft.models.quantization import NF4, Int8
from xft.models.reward_head import choose_padding, is_reward_model
from xft.templates import BoundTemplate
from xft.utils import console


def convert(
    source: str,
    out: str,
    merged: bool = False,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    trust_remote_code: bool = False,
    fresh: bool = True,
    gguf: str | None = None,
) -> Comparison:
    """Write a run, a checkpoint or an adapter as plain ``peft`` or ``transformers`` reads it, or as GGUF.

    Args:
        source: what to export.
        out: a folder that does not exist yet, or is empty.
        merged: fold an adapter into its base and write a whole model.
        dtype: of the weights that are written; by default as in training.
        max_shard_size: of a file of weights.
        trust_remote_code: run Python code that lies beside the weights.
        fresh: whether what was written is opened in a fresh process to verify it.
        gguf: of ``TYPES`` in :mod:`xft.export.gguf`: write a whole model as one file in that type.

    Returns:
        How near what was written is to what was opened: a merged model to the adapter on its base,
        on the sample questions of the run.

    Raises:
        ConfigError: ``out`` is in use, or ``source`` cannot be written in that way.
        CheckpointError: what was written does not give what was opened; nothing is left of it.
    """
    target = Path(out).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"OUT: {out} exists and is not empty; choose another folder")
    if gguf is not None and (merged or dtype is not None):
        raise ConfigError("--gguf: it merges by itself, and names the type; leave --merge and --dtype out")
    export = _open(source, merged, dtype, gguf, max_shard_size, trust_remote_code, fresh)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise ConfigError(f"OUT: cannot make {out} ({error.strerror})") from error
    made.chmod(0o755)
    try:
        if gguf is not None:
            comparison = _write_gguf(export, made, gguf, target.name)
        else:
            comparison = _write_merged(export, made, dtype) if merged else _write_plain(export, made)
        kind = "gguf" if gguf is not None else "adapter" if is_adapter(made) else "model"
        base = export.note.base if export.note is not None else _name(export.loaded)
        write_card(made, Path(source), base, kind, name_of_run(source))
        if target.exists():
            target.rmdir()
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return comparison


@dataclass(frozen=True)
class _Export:
    """What is written: the opened model, and how."""

    source: str
    loaded: LoadedModel
    template: BoundTemplate | None
    note: Note | None
    max_shard_size: str
    trust_remote_code: bool
    fresh: bool

    def write(self, model: Any, note: Note, folder: Path) -> Comparison:
        """Write a model, and see that what was written gives what it gives."""
        tokenizer = self.loaded.tokenizer
        save_artifact(model, tokenizer, self.template, note, folder, max_shard_size=self.max_shard_size)
        return verify_artifact(
            folder,
            model,
            tokenizer,
            self.template,
            torch.device("cpu"),
            trust_remote_code=self.trust_remote_code,
            fresh=self.fresh,
        )


def _open(
    source: str,
    merged: bool,
    dtype: str | None,
    gguf: str | None,
    max_shard_size: str,
    trust_remote_code: bool,
    fresh: bool,
) -> _Export:
    """Open what is to be written, and refuse what cannot be written in that way."""
    folder = find_artifact(Path(source))
    note = read_note(folder)
    if gguf is not None and not is_adapter(folder):
        dtype = _type_name(TYPES.get(gguf, torch.float32))
    # Whatever dtype is wished for is loaded, never cast to: casting a model as a whole would round
    # buffers too, the frequencies of its rotary embedding among them.
    loaded = open_artifact(source, dtype=None if merged else dtype, trust_remote_code=trust_remote_code)
    if merged and not isinstance(loaded.model, PeftModel):
        raise ConfigError(f"--merge: {source} is a whole model already; leave --merge out")
    if dtype is not None and not merged and isinstance(loaded.model, PeftModel):
        raise ConfigError("--dtype: an adapter is exported as it is; --merge makes a whole model of it")
    if norms := adapter_norms(loaded.model):
        check_learnt(norms, trains_more(loaded.model), source)
        console.info(summarise(norms))
    template = _template(loaded)
    if gguf is not None:
        check_family(loaded.base, loaded.tokenizer, gguf)
    return _Export(source, loaded, template, note, max_shard_size, trust_remote_code, fresh)


def _write_plain(export: _Export, made: Path) -> Comparison:
    dtype = _type_name(export.loaded.base.dtype)
    note = replace(export.note or Note(_name(export.loaded), dtype), dtype=dtype)
    return export.write(export.loaded.model, note, made)


def _write_gguf(export: _Export, made: Path, kind: str, name: str) -> Comparison:
    """Write the whole model as one file, and compare what another reader makes of it."""
    whole: Any = export.loaded.model
    if isinstance(whole, PeftModel):
        whole, _ = _merge(export, _type_name(TYPES[kind]))
    tokenizer, template, file = export.loaded.tokenizer, export.template, made / FILE
    write_gguf(whole, tokenizer, template, kind, file, name)
    probes, _ = read_probes(Path(export.source), tokenizer, template)
    comparison = check_gguf(file, whole, tokenizer, template, kind, probes)
    bos = read_vocabulary(tokenizer, whole.get_input_embeddings().weight.shape[0]).bos
    text, told = modelfile(template, FILE, bos)
    (made / "Modelfile").write_text(text, encoding="utf-8")
    if not told:
        console.info(
            "warning: Ollama's template language cannot say this chat template; Modelfile is without one"
        )
    return comparison


def _write_merged(export: _Export, made: Path, dtype: str | None) -> Comparison:
    """Write the merged model."""
    whole, comparison = _merge(export, dtype)
    export.write(whole, Note(_name(export.loaded), _type_name(whole.dtype)), made)
    return comparison


def _merge(export: _Export, dtype: str | None) -> tuple[Any, Comparison]:
    """Merge into plain weights, and compare with the adapter on the base that it was trained on."""
    loaded: Any = export.loaded
    note = export.note
    scored = is_reward_model(loaded.model)
    probes, said = read_probes(Path(export.source), loaded.tokenizer, export.template, scored)
    expected = [logits_of(loaded.model, each) for each in probes]
    with loaded.model.disable_adapter():
        effect = divergence(expected, [logits_of(loaded.model, each) for each in probes])
    trained, bits = loaded.base.dtype, note.bits if note is not None else None
    wanted = choose_dtype(dtype or (note.dtype if note is not None else "auto"), torch.device("cpu"))
    allowed = limits(trained, wanted, bits=bits)
    whole: Any = merge(_on_plain_base(export, wanted))
    whole.config.use_cache = True
    if scored:
        choose_padding(whole, loaded.tokenizer, None)
    # Compared before it is written: large folders take long.
    got = [logits_of(whole, each) for each in probes]
    comparison = compare_merged(expected, got, allowed, export.source, scored)
    for line in _measured(comparison, effect, allowed, said):
        console.info(line)
    return whole, comparison


def _measured(found: Comparison, effect: float, allowed: Limits, said: str) -> list[str]:
    """Lines on how near a merged model is, beside how far the adapter takes the base at all."""
    least = "" if found.scored else f" (at least {allowed.agreement:.0%})"
    lines = [
        f"merged against the adapter, over {said}: KL {found.divergence:.2g} nats (at most "
        f"{allowed.divergence:g}; the adapter itself makes {effect:.2g}), {found.agreed(1)}{least}"
    ]
    if found.divergence > NOTICEABLE * effect:
        lines.append(
            "warning: the rounding of the merged weights is not small beside what the adapter does; --dtype float32 "
            "rounds less, and the adapter on its base rounds nothing"
        )
    return lines


def _on_plain_base(export: _Export, dtype: torch.dtype) -> Any:
    """The adapter on a base that is not quantised, in the type that is written.

    A quantised base is dequantised, not replaced by the original weights: the adapter has learnt to
    make up for the rounding of the base that it was trained on.
    """
    source, loaded, note, trusts = export.source, export.loaded, export.note, export.trust_remote_code
    if note is None or note.bits is None:
        if loaded.base.dtype == dtype:
            return loaded.model
        return open_artifact(source, dtype=_type_name(dtype), trust_remote_code=trusts).model
    base: Any = load_weights(
        note.base,
        choose_dtype(note.dtype, torch.device("cpu")),
        quantization=NF4(note.double_quant) if note.bits == 4 else Int8(),
        device=torch.device("cpu"),
        trust_remote_code=trusts,
        kind=kind_of_adapter(find_artifact(Path(source))),
    )
    base = base.dequantize(dtype)
    resize_embeddings(base, loaded.tokenizer)
    return load_adapter(base, find_artifact(Path(source)))


def _name(loaded: LoadedModel) -> str:
    return str(loaded.base.name_or_path)


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _template(loaded: LoadedModel) -> BoundTemplate | None:
    source = loaded.tokenizer.chat_template
    return BoundTemplate(loaded.tokenizer, source) if isinstance(source, str) else None
