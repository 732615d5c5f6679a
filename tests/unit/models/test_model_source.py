"""Training continues from a run or an adapter named as ``model.path``."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import mixture, train_adapter
from helpers.models import load_model, logits_of
from helpers.preferences import pair_samples
from helpers.strategies import FakeStrategy
from torch import Tensor

from xft.data import Collator
from xft.errors import ConfigError, ModelError
from xft.models import NF4, CausalLMConfig, LoadedModel, LoRA, ModelMetadata, load_saved_model, save_model
from xft.models.model_source import resolve_model_source
from xft.models.reference import ReferenceContext, build_reference
from xft.utils.paths import METADATA_FILE

CPU = torch.device("cpu")
ADAPTER: dict[str, Any] = {"r": 4, "lora_alpha": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A run folder whose final model is an adapter with a new token."""
    run = tmp_path_factory.mktemp("runs") / "sft"
    (run / "final").mkdir(parents=True)
    (run / "config.py").write_text("seed = 0\n")
    config = CausalLMConfig(str(base), dtype="float32", additional_special_tokens=["<new>"])
    tokenizer = config.load_tokenizer()
    model = config.load(tokenizer, CPU, LoRA(**ADAPTER)).model
    torch.manual_seed(1)
    for param in model.parameters():
        if param.requires_grad:
            param.data += torch.randn_like(param) * 0.05
    save_model(model, tokenizer, None, ModelMetadata(str(base), "float32"), run / "final")
    return run


def _load(path: Path, adapter: LoRA | None = None, **options: Any) -> LoadedModel:
    quantization = options.pop("quantization", None)
    config = CausalLMConfig(str(path), dtype="float32", **options)
    return config.load(config.load_tokenizer(), CPU, adapter, quantization)


def _logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 45)[None]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", ["run", "final"])
def test_adapter_is_continued(base: Path, run: Path, place: str) -> None:
    loaded = _load(run if place == "run" else run / "final", LoRA(**ADAPTER))
    assert loaded.continued
    torch.testing.assert_close(_logits(loaded.model), _logits(load_saved_model(str(run)).model))
    trained = {name for name, param in loaded.model.named_parameters() if param.requires_grad}
    new = {
        name
        for name, param in _load(
            base, LoRA(**ADAPTER), additional_special_tokens=["<new>"]
        ).model.named_parameters()
        if param.requires_grad
    }
    assert trained == new
    assert any("trainable_tokens" in name for name in trained)
    assert loaded.base.name_or_path == str(base)
    assert "<new>" in loaded.tokenizer.get_vocab()


@pytest.fixture
def quantized_run(run: Path, base: Path, tmp_path: Path) -> Path:
    """The same run, trained on a base in 4 bits."""
    copy = Path(shutil.copytree(run, tmp_path / "quantized"))
    metadata = ModelMetadata(str(base), "float32", bits=4)
    (copy / "final" / METADATA_FILE).write_text(json.dumps(asdict(metadata)))
    return copy


@pytest.mark.parametrize("adapter", [LoRA(**ADAPTER), None], ids=["continued", "merged"])
def test_base_of_another_precision_than_that_of_the_adapter_raises(
    quantized_run: Path, adapter: LoRA | None
) -> None:
    with pytest.raises(ConfigError) as error:
        _load(quantized_run, adapter)
    assert (error.value.key, error.value.got) == ("quantization", "None")
    assert "nf4" in str(error.value)


def test_quantized_base_of_an_adapter_that_was_trained_without_quantization_raises(run: Path) -> None:
    with pytest.raises(ConfigError) as error:
        _load(run, LoRA(**ADAPTER), quantization=NF4())
    assert (error.value.key, error.value.got) == ("quantization", "dict(type='nf4')")


def test_adapter_is_continued_on_a_quantized_base(quantized_run: Path) -> None:
    run = quantized_run
    loaded = _load(run, LoRA(**ADAPTER), quantization=NF4())
    torch.testing.assert_close(_logits(loaded.model), _logits(load_saved_model(str(run), bits=4).model))


def test_adapter_is_merged_for_full_training(run: Path) -> None:
    loaded = _load(run)
    assert not loaded.continued
    assert all(param.requires_grad for param in loaded.model.parameters())
    expected = _logits(load_saved_model(str(run)).model)
    torch.testing.assert_close(_logits(loaded.model), expected, rtol=1e-4, atol=1e-5)


def test_run_of_a_whole_model_is_its_final_model(base: Path, tmp_path: Path, byte_tokenizer: Any) -> None:
    final = tmp_path / "run" / "final"
    final.mkdir(parents=True)
    model = load_model(base)
    save_model(model, byte_tokenizer, None, ModelMetadata(str(base), "float32"), final)
    source = resolve_model_source(str(tmp_path / "run"), "causal_lm")
    assert (source.base, source.adapter) == (str(final.resolve()), None)


@pytest.mark.parametrize("path", ["xft://smollm2-135m-instruct", "owner/name"])
def test_names_are_base_models(path: str) -> None:
    source = resolve_model_source(path, "causal_lm")
    assert (source.base, source.adapter, source.tokenizer) == (path, None, path)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        resolve_model_source(str(tmp_path), "causal_lm")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "rank": (lambda run: _load(run, LoRA(r=8, lora_alpha=8)), "adapter.r"),
    "alpha": (lambda run: _load(run, LoRA(r=4, lora_alpha=16)), "adapter.lora_alpha"),
    "dora": (lambda run: _load(run, LoRA(**ADAPTER, use_dora=True)), "adapter.use_dora"),
    "pissa": (
        lambda run: _load(run, LoRA(**ADAPTER, init_lora_weights="pissa")),
        "adapter.init_lora_weights",
    ),
    "tokens": (
        lambda run: _load(run, LoRA(**ADAPTER), additional_special_tokens=["<other>"]),
        "model.additional_special_tokens",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_config_of_another_adapter_is_refused(run: Path, change: str) -> None:
    load, key = CHANGES[change]
    with pytest.raises(ConfigError) as error:
        load(run)
    assert error.value.key == key


def test_adapter_of_other_layers_is_refused(run: Path) -> None:
    with pytest.raises(ModelError):
        _load(run, LoRA(**ADAPTER, target_modules=["q_proj"]))


def test_adapter_of_a_language_model_is_no_reward_model(run: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_model(run, LoRA(**ADAPTER), reward=True)
    assert error.value.key == "model.path"


@pytest.mark.parametrize("precompute", [True, False])
def test_reference_is_the_adapter_at_the_beginning(run: Path, precompute: bool) -> None:
    loaded = _load(run, LoRA(**ADAPTER))
    samples = pair_samples()
    context = ReferenceContext(
        loaded, FakeStrategy(), lambda: Collator(2).iter_batches(samples, max_tokens=40)
    )
    reference = build_reference("auto", precompute, context)
    batch = next(iter(Collator(2).iter_batches(samples, max_tokens=40)))
    before = reference(loaded.model, batch)
    with loaded.model.disable_adapter():  # type: ignore[operator]
        of_base = build_reference("frozen_copy", True, context)(loaded.model, batch)
    assert (before - of_base).abs().max() > 1e-3
    for param in loaded.model.parameters():
        if param.requires_grad:
            param.data += torch.randn_like(param)
    torch.testing.assert_close(reference(loaded.model, batch), before)
    if not precompute:
        copies = dict(reference.model.named_parameters())  # type: ignore[attr-defined]
        for name, param in loaded.model.named_parameters():
            assert (copies[name] is param) is not param.requires_grad


def test_adapter_of_experts_is_continued(tmp_path: Path, byte_tokenizer: Any) -> None:
    folder = tmp_path / "base"
    mixture("deepseek_v3", vocab_size=len(byte_tokenizer)).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    adapter = LoRA(**ADAPTER, target_modules="all")
    first = train_adapter(load_model(folder, adapter))
    first.save_pretrained(str(tmp_path / "adapter"))
    second = load_model(tmp_path / "adapter", adapter)
    assert torch.equal(logits_of(second.eval()), logits_of(first))
    assert sum(param.requires_grad for param in second.parameters()) == sum(
        param.requires_grad for param in first.parameters()
    )
