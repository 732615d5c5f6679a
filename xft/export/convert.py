"""Convert a run to a Hugging Face folder or a GGUF file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xft.compat.peft import PeftModel
from xft.errors import ConfigError
from xft.export.card import run_name, write_card
from xft.export.gguf import DTYPES, MODEL_FILE, check_gguf, check_supported, read_vocabulary, write_gguf
from xft.export.gguf.architectures import embedding_rows
from xft.export.layout import Layout, apply_layout, check_layout
from xft.export.ollama import modelfile
from xft.export.target import check_shard_size, check_target, report_disk_errors
from xft.export.verify import Comparison, verify_saved_model
from xft.export.verify.adapter_norms import (
    adapter_norms,
    check_adapter_nonzero,
    summarize_norms,
    trains_other_params,
)
from xft.export.verify.merge_check import (
    compare_merged,
    mean_kl,
    merge_lines,
    merge_tolerance,
    read_probes,
)
from xft.export.verify.worker import compute_logits
from xft.export.vllm import vllm_note
from xft.models import (
    LoadedModel,
    ModelMetadata,
    find_saved_model,
    load_saved_model,
    read_metadata,
    save_model,
)
from xft.models.adapters import saved_adapter
from xft.models.adapters.merging import check_mergeable, merge
from xft.models.loading import FLOAT_DTYPES, choose_dtype, load_weights, resize_embeddings
from xft.models.mapped_families import as_llama, is_mapped
from xft.models.quantization import NF4, Int8
from xft.models.reward_head import is_reward_model, set_pad_token
from xft.templates import BoundTemplate
from xft.utils import console
from xft.utils.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def convert(
    source: str,
    out: str,
    merged: bool = False,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    trust_remote_code: bool = False,
    subprocess: bool = True,
    gguf: str | None = None,
    layout: Layout = "original",
) -> Comparison:
    """Write a run, a checkpoint or an adapter in the format of ``peft`` or ``transformers``, or as GGUF.

    Args:
        source: run folder, checkpoint, adapter or model.
        out: a folder that does not exist or is empty.
        merged: merge an adapter into its base and write a full model.
        dtype: of the written weights; by default the training dtype, or that of the files if it is not known.
        max_shard_size: of a file of weights.
        trust_remote_code: run Python code of the model's folder.
        subprocess: verify the export in a new process.
        gguf: key of ``DTYPES`` in :mod:`xft.export.gguf`; write a full model as one file of that type.
        layout: names of the weights.

    Returns:
        Distance of the export from the source. A merged model is compared with adapter and base on the sample questions.

    Raises:
        ConfigError: ``out`` is in use, or ``source`` cannot be written in that way.
        CheckpointError: the disk is full, or the export differs from the source; the export is removed.
    """
    target = Path(out).absolute()
    check_target(target)
    check_shard_size(max_shard_size)
    if gguf is not None and (merged or dtype is not None):
        raise ConfigError(
            key="--gguf",
            got="--merge or --dtype in addition",
            expected="neither, since --gguf merges and sets the dtype",
        )
    export = _open(source, merged, dtype, gguf, max_shard_size, trust_remote_code, subprocess, layout)
    with report_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target) as folder:
            folder.chmod(0o755)
            if gguf is not None:
                comparison = _write_gguf(export, folder, gguf, target.name)
            elif merged:
                comparison = _write_merged(export, folder, dtype)
            else:
                comparison = _write_plain(export, folder)
            kind = "gguf" if gguf else "adapter" if saved_adapter.is_adapter(folder) else "model"
            base = export.metadata.base if export.metadata is not None else _name(export.loaded)
            step = export.metadata.step if export.metadata is not None else None
            write_card(folder, Path(source), base, kind, run_name(source), step)
            if kind == "adapter" and (note := vllm_note(folder)) is not None:
                console.info(f"note: {note}")
            if target.exists():
                target.rmdir()
            folder.rename(target)
    return comparison


@dataclass(frozen=True)
class _Export:
    """Loaded model and options of an export."""

    source: str
    loaded: LoadedModel
    template: BoundTemplate | None
    metadata: ModelMetadata | None
    max_shard_size: str
    trust_remote_code: bool
    subprocess: bool
    layout: Layout

    def write(
        self, model: "PreTrainedModel | PeftModel", metadata: ModelMetadata, folder: Path
    ) -> Comparison:
        """Write a model and compare the written model with it."""
        tokenizer, model = self.loaded.tokenizer, apply_layout(self.layout, model)
        save_model(model, tokenizer, self.template, metadata, folder, max_shard_size=self.max_shard_size)
        return verify_saved_model(
            folder,
            model,
            tokenizer,
            self.template,
            torch.device("cpu"),
            trust_remote_code=self.trust_remote_code,
            subprocess=self.subprocess,
        )


def _open(
    source: str,
    merged: bool,
    dtype: str | None,
    gguf: str | None,
    max_shard_size: str,
    trust_remote_code: bool,
    subprocess: bool,
    layout: Layout,
) -> _Export:
    """Load the source and refuse options that do not apply to it."""
    folder = find_saved_model(Path(source))
    metadata = read_metadata(folder)
    if gguf is not None and not saved_adapter.is_adapter(folder):
        dtype = _dtype_name(DTYPES.get(gguf, torch.float32))
    # The dtype is passed to loading, never cast to: casting a model would round its buffers too, such
    # as the frequencies of the rotary embedding.
    # Without a training dtype, that of the files: what a machine computes fast must not decide what is written.
    loaded_dtype = (None if merged else dtype) or (None if metadata is not None else "stored")
    loaded = load_saved_model(source, dtype=loaded_dtype, trust_remote_code=trust_remote_code)
    if merged and not isinstance(loaded.model, PeftModel):
        raise ConfigError(
            key="--merge", got=f"a full model, {source}", expected="an adapter", fix="leave out --merge"
        )
    if dtype is not None and not merged and isinstance(loaded.model, PeftModel):
        raise ConfigError(
            key="--dtype",
            got="an adapter without --merge",
            expected="a full model",
            fix="add --merge, or leave out --dtype to export the adapter unchanged",
        )
    if isinstance(loaded.model, PeftModel) and (merged or gguf is not None):
        check_mergeable(loaded.model)
    check_layout(layout, loaded, merged)
    if norms := adapter_norms(loaded.model):
        check_adapter_nonzero(norms, trains_other_params(loaded.model), source)
        console.info(summarize_norms(norms))
    template = _template(loaded)
    if gguf is not None:
        check_supported(loaded.base, loaded.tokenizer, gguf)
    return _Export(
        source, loaded, template, metadata, max_shard_size, trust_remote_code, subprocess, layout
    )


def _write_plain(export: _Export, folder: Path) -> Comparison:
    dtype = _dtype_name(export.loaded.base.dtype)
    metadata = replace(export.metadata or ModelMetadata(_name(export.loaded), dtype), dtype=dtype)
    if isinstance(model := export.loaded.model, PeftModel):
        saved_adapter.restore_precision(model, find_saved_model(Path(export.source)))
    return export.write(model, metadata, folder)


def _write_gguf(export: _Export, folder: Path, gguf_type: str, name: str) -> Comparison:
    """Write the full model as one GGUF file and verify it with the reader of transformers."""
    model = export.loaded.model
    if isinstance(model, PeftModel):
        model, _ = _merge(export, _dtype_name(DTYPES[gguf_type]))
    if is_mapped(model.config):
        model = as_llama(model)
    tokenizer, template, file = export.loaded.tokenizer, export.template, folder / MODEL_FILE
    write_gguf(model, tokenizer, template, gguf_type, file, name)
    probes, _ = read_probes(Path(export.source), tokenizer, template)
    comparison = check_gguf(file, model, tokenizer, template, gguf_type, probes)
    add_bos = read_vocabulary(tokenizer, embedding_rows(model)).add_bos
    text, has_template = modelfile(template, MODEL_FILE, add_bos, export.loaded.system)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    if not has_template:
        console.info(
            "warning: the chat template cannot be expressed in Ollama's template language; Modelfile has none"
        )
    return comparison


def _write_merged(export: _Export, folder: Path, dtype: str | None) -> Comparison:
    """Write the merged model."""
    model, comparison = _merge(export, dtype)
    metadata = ModelMetadata(_name(export.loaded), _dtype_name(model.dtype), system=export.loaded.system)
    export.write(model, metadata, folder)
    return comparison


def _merge(export: _Export, dtype: str | None) -> tuple["PreTrainedModel", Comparison]:
    """Merge into unquantized weights and compare with the adapter on its training base."""
    loaded = export.loaded
    metadata = export.metadata
    scored = is_reward_model(loaded.model)
    probes, description = read_probes(Path(export.source), loaded.tokenizer, export.template, scored)
    expected = [compute_logits(loaded.model, rows) for rows in probes]
    assert isinstance(loaded.model, PeftModel)
    with loaded.model.disable_adapter():
        effect = mean_kl(expected, [compute_logits(loaded.model, rows) for rows in probes])
    bits = metadata.bits if metadata is not None else None
    known = dtype or (metadata.dtype if metadata is not None else None)
    target = loaded.base.dtype if known is None else choose_dtype(known, torch.device("cpu"))
    tolerance = merge_tolerance(loaded.base.dtype, target, bits=bits)
    model = merge(_on_unquantized_base(export, target))
    model.config.use_cache = True
    if scored:
        set_pad_token(model, loaded.tokenizer, None)
    # Compared before writing, which takes long for large models.
    actual = [compute_logits(model, rows) for rows in probes]
    comparison = compare_merged(expected, actual, tolerance, export.source, scored)
    for line in merge_lines(comparison, effect, tolerance, description):
        console.info(line)
    return model, comparison


def _on_unquantized_base(export: _Export, dtype: torch.dtype) -> Any:
    """Load the adapter on an unquantized base in the written dtype.

    A quantized base is dequantized, not replaced by the original weights: training fitted the adapter
    to the rounding error of its base.
    """
    source, loaded, metadata = export.source, export.loaded, export.metadata
    trusts = export.trust_remote_code
    if metadata is None or metadata.bits is None:
        if loaded.base.dtype == dtype:
            return loaded.model
        return load_saved_model(source, dtype=_dtype_name(dtype), trust_remote_code=trusts).model
    base = load_weights(
        metadata.base,
        choose_dtype(metadata.dtype, torch.device("cpu")),
        quantization=NF4(metadata.double_quant) if metadata.bits == 4 else Int8(),
        device=torch.device("cpu"),
        trust_remote_code=trusts,
        kind="vision_language"
        if loaded.processor is not None
        else saved_adapter.adapter_model_kind(find_saved_model(Path(source))),
        rope_parameters=metadata.rope_parameters,
    )
    base = base.dequantize(dtype)
    resize_embeddings(base, loaded.tokenizer)
    return saved_adapter.load_adapter(base, find_saved_model(Path(source)))


def _name(loaded: LoadedModel) -> str:
    return str(loaded.base.name_or_path)


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in FLOAT_DTYPES:
        raise ConfigError(
            key="--dtype", got=f"weights in {name}", expected=f"one of {', '.join(FLOAT_DTYPES)}"
        )
    return name


def _template(loaded: LoadedModel) -> BoundTemplate | None:
    source = loaded.tokenizer.chat_template
    return BoundTemplate(loaded.tokenizer, source) if isinstance(source, str) else None
