"""Comparison of a reloaded model with the live one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from xft.errors import CheckpointError
from xft.export.verify import ReferenceOutputs, VerifyResult, check_result


def _outputs(scale: float = 1.0) -> tuple[ReferenceOutputs, VerifyResult]:
    torch.manual_seed(0)
    logits = torch.randn(1, 7, 50)
    norms = {"up": 0.5, "down": 2.0}
    reference = ReferenceOutputs(["text"], [[1, 2]], [3], norms, logits)
    return reference, VerifyResult(["text"], [[1, 2]], [3], dict(norms), False, logits * scale)


def test_check_result_of_same_model_passes() -> None:
    reference, result = _outputs()
    comparison = check_result(result, reference, "final")
    assert str(comparison) == "logits are identical"
    assert comparison.adapter_norms == {"up": 0.5, "down": 2.0}


@pytest.mark.parametrize(
    ("change", "key", "got"),
    [
        ({"texts": ["other"]}, "final: text rendered by the chat template", "other"),
        ({"input_ids": [[1, 2, 3]]}, "final: token ids of the tokenizer", [1, 2, 3]),
        ({"stop_ids": [4]}, "final: stop tokens of generation_config.json", [4]),
        ({"adapter_norms": {"up": 0.5}}, "final: ‖ΔW‖ of layer down", None),
        ({"adapter_norms": {"up": 0.5, "down": 2.01}}, "final: ‖ΔW‖ of layer down", 2.01),
        ({"adapter_norms": {"up": 0.0, "down": 0.0}}, "final: ‖ΔW‖ of layer down", 0.0),
        ({"logits": torch.zeros(1, 7, 50)}, "final: logits of the saved model", None),
        ({"logits": torch.zeros(1, 7, 51)}, "final: the saved model: shape of the logits", (1, 7, 51)),
        ({"logits": torch.full((1, 7, 50), torch.nan)}, "final: the saved model: logits", None),
    ],
)
def test_check_result_names_each_difference(change: dict[str, Any], key: str, got: object) -> None:
    reference, result = _outputs()
    with pytest.raises(CheckpointError) as error:
        check_result(replace(result, **change), reference, "final")
    assert error.value.key == key
    if got is not None:
        assert error.value.got == got
    assert "\n" not in str(error.value)


def test_check_result_tolerance_is_a_fraction_of_the_largest_logit() -> None:
    reference, result = _outputs(scale=1.002)
    check_result(result, reference, "final", tolerance=0.0021)
    with pytest.raises(CheckpointError) as error:
        check_result(result, reference, "final", tolerance=0.0019)
    assert error.value.key == "final: logits of the saved model"


def test_check_result_accepts_a_zero_adapter_only_during_training() -> None:
    reference, result = _outputs()
    zero = {"up": 0.0, "down": 0.0}
    reference, result = replace(reference, adapter_norms=zero), replace(result, adapter_norms=dict(zero))
    check_result(result, reference, "step_1", require_nonzero=False)
    with pytest.raises(CheckpointError) as error:
        check_result(result, reference, "final")
    assert error.value.key == "final: adapter"
    check_result(replace(result, trains_other_params=True), reference, "final")


def test_check_result_without_template_ignores_stop_ids() -> None:
    reference, result = _outputs()
    check_result(replace(result, stop_ids=[9]), replace(reference, stop_ids=None), "final")
