from typing import Any

from helpers.plans import plan_of
from helpers.preferences import whole_model
from helpers.strategies import FakeStrategy

from xft.data import DataReport, InstructionData, PreparedData, SampleView
from xft.models import CausalLMConfig, LoadedModel, LoRA
from xft.run_config.config import RunConfig
from xft.strategies import SingleDeviceConfig
from xft.training.hooks.validation import ValidationHook
from xft.training.resolved_values import resolved_values
from xft.training.setup import TrainSetup


def _resolve(config: dict[str, Any], adapter: LoRA | None = None) -> dict[str, object]:
    model: Any = whole_model() if adapter is None else adapter.apply(whole_model(), [])
    empty = SampleView([])
    run_config = RunConfig(
        CausalLMConfig("x"),
        InstructionData("rows.jsonl", format=len),  # type: ignore[arg-type]
        hooks={"validation": ValidationHook()},
    )
    setup = TrainSetup(
        run_config,
        config,
        LoadedModel(model, None),  # type: ignore[arg-type]
        None,
        PreparedData(empty, empty, DataReport(rows_val=7)),
        plan_of([5] * 8, 20, micro_batch_size=2),
        [],
        SingleDeviceConfig(),
    )
    return resolved_values(setup, FakeStrategy())


def test_values_that_the_config_leaves_open_are_resolved() -> None:
    values = _resolve({"training": {"micro_batch_size": 2}, "model": {"dtype": "auto"}})
    assert values["model.dtype"] == "float32"
    assert (values["training.max_steps"], values["data.val_split"]) == (20, 7)
    assert values["hooks.validation.interval"] == 4
    assert "training.micro_batch_size" not in values  # the config has it
    assert "adapter.target_modules" not in values


def test_layers_of_all_linear_are_listed() -> None:
    names = _resolve({}, LoRA(r=2))["adapter.target_modules"]
    assert isinstance(names, list)
    assert {"q_proj", "down_proj"} <= {name.rpartition(".")[2] for name in names}
