from typing import Any, Literal

import pytest
import torch
from helpers.preferences import VOCABULARY, whole_model
from transformers import AutoModelForCausalLM, MambaConfig

from xft.data import InstructionData
from xft.errors import ConfigError
from xft.models import NF4, CausalLMConfig, LoadedModel, LoRA
from xft.run_config.config import RunConfig
from xft.strategies.ddp import DDPConfig
from xft.training.setup import _model_metadata, _packing, data_parallel_size


def _run_config(
    path: str = "owner/name",
    packing: bool | Literal["auto"] = False,
    system: str = "",
    **options: Any,
) -> RunConfig:
    data = InstructionData("rows.jsonl", format=len, packing=packing, system=system)  # type: ignore[arg-type]
    return RunConfig(CausalLMConfig(path, attn_implementation="sdpa"), data, **options)


@pytest.mark.parametrize(("world_size", "size", "groups"), [(1, 1, 1), (4, 1, 4), (4, 2, 2), (6, 6, 1)])
def test_data_parallel_size_counts_groups_of_ranks(world_size: int, size: int, groups: int) -> None:
    assert data_parallel_size(DDPConfig(sequence_parallel_size=size), world_size) == groups


@pytest.mark.parametrize(("world_size", "size"), [(1, 2), (4, 3), (4, 0), (4, -2)])
def test_data_parallel_size_of_indivisible_world_raises_config_error(world_size: int, size: int) -> None:
    with pytest.raises(ConfigError) as error:
        data_parallel_size(DDPConfig(sequence_parallel_size=size), world_size)
    assert (error.value.key, error.value.got) == ("strategy.sequence_parallel_size", size)


def test_packing_with_a_recurrent_model_raises_config_error() -> None:
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4)
    recurrent = LoadedModel(AutoModelForCausalLM.from_config(config), None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        _packing(_run_config(packing=True), recurrent)
    assert (error.value.key, error.value.got) == ("data.packing", True)
    assert _packing(_run_config(packing=False), recurrent) is False
    assert _packing(_run_config(packing="auto"), recurrent) is False
    attention = LoadedModel(whole_model(), None)  # type: ignore[arg-type]
    assert _packing(_run_config(packing=True), attention) is True
    assert _packing(_run_config(packing="auto"), attention) is True


def test_model_metadata_describes_how_the_model_was_loaded() -> None:
    model = whole_model().to(torch.bfloat16)
    model.name_or_path = "/models/base"
    loaded = LoadedModel(model, None)  # type: ignore[arg-type]
    quantized = {"adapter": LoRA(), "quantization": NF4(double_quant=False)}
    metadata = _model_metadata(_run_config(**quantized), loaded)
    assert (metadata.base, metadata.dtype, metadata.bits) == ("/models/base", "bfloat16", 4)
    assert (metadata.double_quant, metadata.attn_implementation) == (False, "sdpa")
    plain = _model_metadata(_run_config(), loaded)
    assert (plain.bits, plain.double_quant, plain.system) == (None, True, "")
    assert _model_metadata(_run_config(system="Be brief."), loaded).system == "Be brief."
