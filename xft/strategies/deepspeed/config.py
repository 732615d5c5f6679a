"""DeepSpeed's JSON config: made from a ZeRO stage, or read from a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from xft.errors import ConfigError
from xft.utils.paths import check_regular

AUTO = "auto"
"""Value in the JSON that xft replaces; see ``resolve``."""
Offload = Literal["none", "optimizer", "all"]


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ConfigError: the file cannot be read, or holds no JSON object.
    """
    key = "strategy.config_file"
    check_regular(Path(path), key)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot read {path} ({error.strerror})", key=key, got=path, expected="a readable file"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{key}: {path} is not valid JSON ({error})", key=key, got=path, expected="valid JSON"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(key=key, got=type(values).__name__, expected="a JSON object")
    return values


def load_config(stage: int | None, offload: Offload, path: str | None) -> dict[str, Any]:
    """Return the JSON config for a ZeRO stage (default 2), or the contents of a file.

    Raises:
        ConfigError: both are given, the file is not valid, or its stage does not exist.
    """
    if path is None:
        return make_config(2 if stage is None else stage, offload)
    if stage is not None or offload != "none":
        raise ConfigError(
            key="strategy",
            got={"config_file": path, "zero_stage": stage, "offload": offload},
            expected="either a file or the other two keys",
            fix="remove zero_stage and offload, which the file sets",
        )
    values = read_json(path)
    stage_of(values)
    return values


def make_config(stage: int, offload: Offload) -> dict[str, Any]:
    """Make the JSON config of a ZeRO stage, with ``"auto"`` for the values that depend on the run.

    Args:
        stage: 0 to 3.
        offload: ``optimizer`` keeps optimizer state in host memory, ``all`` the parameters too.
    """
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": AUTO}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": AUTO, "stage3_param_persistence_threshold": AUTO}
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    keys = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {**dict.fromkeys(keys, AUTO), "bf16": {"enabled": AUTO}, "zero_optimization": zero}


def stage_of(values: Mapping[str, Any]) -> int:
    """Return the ZeRO stage of a JSON config.

    Raises:
        ConfigError: the stage does not exist.
    """
    zero = values.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    if stage not in (0, 1, 2, 3):
        raise ConfigError(key="zero_optimization.stage", got=stage, expected="0, 1, 2 or 3")
    return int(stage)
