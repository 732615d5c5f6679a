"""Models whose files do not hold exactly the weights of the model are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from xft.errors import ModelError
from xft.models import NF4, Int8, LoRA, load_saved_model
from xft.models.param_shapes import quant_state
from xft.models.weight_checks import check_files_finite, check_finite, nonfinite_names

Change = Callable[[dict[str, Tensor]], object]
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def _changed(base: Path, folder: Path, change: Change) -> Path:
    copy = Path(shutil.copytree(base, folder))
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


def _drop(*names: str) -> Change:
    return lambda weights: [weights.pop(name) for name in names or sorted(weights)[3:12]]


def _set(name: str, value: Tensor) -> Change:
    return lambda weights: weights.update({name: value})


CHANGES: dict[str, tuple[Change, str]] = {
    "missing": (_drop(), "9 missing weights such as 'model.layers.0.mlp.gate_proj.weight'"),
    "unexpected": (
        _set("model.layers.7.self_attn.q_proj.weight", torch.zeros(64, 64)),
        "1 unexpected weights such as 'model.layers.7.self_attn.q_proj.weight'",
    ),
    "shape": (_set("model.norm.weight", torch.ones(3)), "1 differently shaped weights"),
    "shape of a layer": (
        _set(Q_PROJ, torch.ones(64, 32)),
        f"1 differently shaped weights such as {Q_PROJ!r}",
    ),
    "nan": (
        _set(Q_PROJ, torch.full((64, 64), float("nan"))),
        f"NaN or infinity in 1 weights, first in {Q_PROJ!r}",
    ),
    "infinite": (
        _set("model.norm.weight", torch.full((64,), float("inf"))),
        "first in 'model.norm.weight'",
    ),
}
LOADS: dict[str, Callable[[Path], Any]] = {
    "full": load_model,
    "nf4": lambda path: load_model(path, LoRA(r=2), NF4()),
    "nf4 in bf16": lambda path: load_model(path, LoRA(r=2), NF4(quant_storage="bfloat16")),
    "int8": lambda path: load_model(path, LoRA(r=2), Int8()),
    "reward": lambda path: load_model(path, reward=True),
    "saved": lambda path: load_saved_model(str(path)),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("change", CHANGES)
def test_incomplete_or_broken_weights_are_refused_for_every_kind(
    base: Path, tmp_path: Path, change: str, load: str
) -> None:
    edit, message = CHANGES[change]
    with pytest.raises(ModelError) as error:
        LOADS[load](_changed(base, tmp_path / "model", edit))
    assert error.value.key == "model.path"
    assert message in str(error.value.got)


@pytest.mark.parametrize("load", LOADS)
def test_complete_weights_are_loaded(base: Path, load: str) -> None:
    LOADS[load](base)


def test_scale_of_a_quantized_weight_is_checked(base: Path) -> None:
    model = load_model(base, LoRA(r=2), NF4(double_quant=False))
    assert nonfinite_names(model.named_parameters()) == []
    name, weight = next(item for item in model.named_parameters() if quant_state(item[1]) is not None)
    quant_state(weight).absmax[0] = float("nan")
    assert nonfinite_names(model.named_parameters()) == [name]


def test_superfluous_tied_head_and_rotary_buffers_are_loaded(base: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    load_model(_changed(base, tmp_path / "model", change))


def test_reward_model_of_untied_language_model_replaces_its_head(base: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1

    folder = _changed(base, tmp_path / "model", change)
    config = folder / "config.json"
    config.write_text(
        config.read_text().replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    )
    load_model(folder, reward=True)
    load_model(folder)


def test_reward_model_without_its_head_gets_no_new_one(
    base: Path, tmp_path: Path, byte_tokenizer: Any
) -> None:
    source = tmp_path / "reward"
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(source)
    byte_tokenizer.save_pretrained(source)
    broken = _changed(source, tmp_path / "broken", _drop("score.weight"))
    for load in ("reward", "saved"):
        with pytest.raises(ModelError) as error:
            LOADS[load](broken)
        assert "'score.weight'" in str(error.value.got)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_check_finite_names_the_tensor(dtype: torch.dtype, value: float) -> None:
    good, bad = torch.randn(3, 5).to(dtype), torch.randn(3, 5).to(dtype)
    bad[2, 4] = value
    others = [("empty", torch.zeros(0)), ("ids", torch.arange(3))]
    check_finite("model", [("good", good), *others])
    with pytest.raises(ModelError) as error:
        check_finite("model", [("good", good), *others, ("bad", bad)])
    assert "'bad'" in str(error.value.got)


def test_ranks_share_the_check_of_files(base: Path, tmp_path: Path) -> None:
    broken = str(_changed(base, tmp_path / "broken", _set(Q_PROJ, torch.full((64, 64), float("nan")))))
    results = []
    for rank in range(3):
        try:
            check_files_finite("model", broken, rank, 3)
            results.append("")
        except ModelError as error:
            results.append(str(error.got))
    assert sorted(Q_PROJ in text for text in results) == [False, False, True]
