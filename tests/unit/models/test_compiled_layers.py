"""A compiled step computes what an uncompiled one does, and is compiled once."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_trained, tiny_family
from helpers.tiny import save_tiny
from helpers.tolerances import TINY_MODEL_FP32, relative_distance
from torch import Tensor, nn
from torch._dynamo.utils import counters

from xft.data import collate_padding_free
from xft.errors import ConfigError
from xft.models import NF4, LoadedModel, TrainingModel, compiled_layers
from xft.models.activation_checkpointing import checkpointed_layers, measure_activation_memory
from xft.models.compiled_layers import compile_layers, compile_problem
from xft.models.fused_norm_mlp import fuse_modules
from xft.objectives import next_token
from xft.types import Batch, Sample

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Compiled code of other tests is discarded before and after."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    compiled_layers._compiled_class.cache_clear()
    compile_problem.cache_clear()
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def no_code_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and differentiate as in training, and compute the traced operations without generated code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def _batch(lengths: Sequence[int]) -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids = [torch.randint(3, 90, (length,), generator=generator).int().numpy() for length in lengths]
    return collate_padding_free([Sample(sample, sample.copy()) for sample in ids])


def _step(model: Any, lengths: Sequence[int]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    output = TrainingModel(model, next_token)(_batch(lengths))
    output.loss_sum.backward()
    grads = {name: param.grad.clone() for name, param in model.named_parameters() if param.grad is not None}
    return float(output.loss_sum.detach()), grads


def _check_equal(model: Any, plain: Any, lengths: Sequence[int]) -> None:
    loss, grads = _step(model, lengths)
    expected_loss, expected = _step(plain, lengths)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32)
    assert grads.keys() == expected.keys()
    assert relative_distance(grads, expected) < TINY_MODEL_FP32


def test_generated_code_equals_eager_and_serves_batches_of_other_lengths(saved: Path) -> None:
    if problem := compile_problem(CPU):
        pytest.skip(f"torch cannot compile on this machine: {problem}")
    model, plain = load_trained(saved, torch_compile=True), load_trained(saved)
    counters.clear()
    _check_equal(model, plain, (9, 30, 4, 37))
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for lengths in ((70,), (12, 50, 30), (5, 5, 5, 5, 40, 33)):
        _check_equal(model, plain, lengths)
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.usefixtures("no_code_generator")
@pytest.mark.parametrize(
    "options",
    [
        {"fused_kernels": False, "gradient_checkpointing": "offload"},
        {"quantization": NF4()},
        {"adapter": None, "attn_implementation": "sdpa"},
    ],
    ids=["unfused-offload", "nf4", "full-sdpa"],
)
def test_traced_step_equals_eager(saved: Path, options: dict[str, Any]) -> None:
    model, plain = load_trained(saved, torch_compile=True, **options), load_trained(saved, **options)
    lengths: list[tuple[int, ...]] = (
        [(40,), (64,)] if "attn_implementation" in options else [(9, 30), (50, 20)]
    )
    for batch in lengths:
        _check_equal(model, plain, batch)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.usefixtures("no_code_generator")
@pytest.mark.parametrize("family", ["lfm2", "qwen3_moe"])
def test_other_families_are_compiled_once(family: str) -> None:
    """Layers that compute each sample by itself (short convolutions) and experts."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = LoadedModel(tiny_family(family), None).model
        fuse_modules(model)
        models.append(model.train())
    compile_layers(models[0], CPU)
    for lengths in ((9, 30, 21), (50, 20)):
        _check_equal(*models, lengths)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for lengths in ((33, 33, 7, 7), (80,)):
        _check_equal(*models, lengths)
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.usefixtures("no_code_generator")
def test_evaluation_and_the_memory_measurement_compile_nothing(saved: Path) -> None:
    model = load_trained(saved, torch_compile=True)
    counters.clear()
    measure_activation_memory(model, model.get_base_model(), _batch((9, 30)))
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(5, 25)[None])
        model.train()(input_ids=torch.arange(5, 25)[None])
    assert counters["stats"]["unique_graphs"] == 0


def test_compiled_layers_keep_their_class_names_and_state(saved: Path) -> None:
    model, plain = load_trained(saved, torch_compile=True), load_trained(saved)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for layer, original in zip(checkpointed_layers(model), checkpointed_layers(plain), strict=True):
        assert isinstance(layer, type(original))


@pytest.mark.usefixtures("no_code_generator")
def test_zero_3_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_trained(saved)
    compile_layers(model, CPU)
    monkeypatch.setattr(compiled_layers, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ConfigError) as caught:
        compile_layers(model, CPU)
    assert (caught.value.key, caught.value.got) == ("model.torch_compile", True)


def test_model_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compile_layers(nn.Linear(2, 2), CPU)
    assert (caught.value.key, caught.value.got) == ("model.torch_compile", True)


def test_machine_that_cannot_compile_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ConfigError) as caught:
        load_trained(saved, torch_compile=True)
    assert caught.value.key == "model.torch_compile"
    assert "no C++ compiler" in str(caught.value)
    assert "and more" not in str(caught.value)
