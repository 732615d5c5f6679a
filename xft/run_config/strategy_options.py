"""Options of the command line that choose the strategy. Nothing here imports torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xft.config.overrides import IMPLICIT_DEFAULTS, Overrides, apply
from xft.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    "zero1": {"zero_stage": 1},
    "zero2": {"zero_stage": 2},
    "zero3": {"zero_stage": 3},
    "zero2_offload": {"zero_stage": 2, "offload": "optimizer"},
    "zero3_offload": {"zero_stage": 3, "offload": "all"},
}
"""Values of ``--deepspeed`` other than a file, as keys of the section ``strategy``."""
SINGLE_DEVICE_KEYS = frozenset({"type", "device", "mixed_precision"})
_SHARED_KEYS = ("device", "mixed_precision", "timeout_minutes", "sequence_parallel_size")
_FSDP_KEYS = ("cpu_offload", "reshard_after_forward")
_PREFIX, _TYPE = "strategy.", "strategy.type"


@dataclass(frozen=True)
class StrategyOptions:
    """Options that choose the strategy.

    Attributes:
        fsdp: shard with FSDP2.
        deepspeed: a name in ``PRESETS``, or a JSON file.
        sequence_parallel_size: number of ranks that share each batch; ``None`` uses that of the config.
        is_launched: whether a launcher starts the ranks, for which a single device becomes ``ddp``.
    """

    fsdp: bool = False
    deepspeed: str | None = None
    sequence_parallel_size: int | None = None
    is_launched: bool = False

    def apply(self, config: dict[str, Any], overrides: Overrides) -> None:
        """Replace the section ``strategy`` of a config by the one that the options choose.

        Args:
            config: plain data, as ``load_config`` returns it with these overrides.
            overrides: dotted key to value. Those of ``strategy`` are keys of the chosen strategy.

        Raises:
            ConfigError: the options contradict each other, or an override.
        """
        before = _section(config.get("strategy", IMPLICIT_DEFAULTS["strategy"]))
        strategy = self._sharding(before)
        option = "--fsdp" if self.fsdp else "--deepspeed"
        named = overrides.get(_TYPE, _section(overrides.get("strategy")).get("type"))
        if strategy is None:
            strategy = dict(before)
        elif named not in (None, strategy["type"]):
            raise ConfigError(key=option, got=f"strategy.type={named} too", expected="one of the two")
        if self.sequence_parallel_size is not None:
            strategy["sequence_parallel_size"] = self.sequence_parallel_size
        # Why: only ranks have other keys, and a launcher selects ddp for them.
        needs_ranks = self.is_launched or self.sequence_parallel_size is not None
        if needs_ranks and strategy.get("type") == "single_device" and strategy.keys() - SINGLE_DEVICE_KEYS:
            strategy["type"] = "ddp"
        if strategy != before:
            config["strategy"] = strategy
            keys = [key for key in overrides if key.startswith(_PREFIX) and key != _TYPE]
            apply(config, {key: overrides[key] for key in keys})

    def _sharding(self, strategy: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the section that ``--fsdp`` or ``--deepspeed`` chooses; ``None`` without one of them."""
        if self.fsdp and self.deepspeed is not None:
            raise ConfigError(
                key="--fsdp", got=f"--deepspeed {self.deepspeed} too", expected="one of the two options"
            )
        keys = (*_SHARED_KEYS, *_FSDP_KEYS) if self.fsdp else _SHARED_KEYS
        kept = {key: strategy[key] for key in keys if key in strategy}
        if self.deepspeed is not None:
            return {"type": "deepspeed", **kept, **parse_cli_option(self.deepspeed)}
        return {"type": "fsdp2", **kept} if self.fsdp else None


def _section(value: object) -> dict[str, Any]:
    """Return a section ``strategy`` as a dict, also one that is only a name; empty for ``None``."""
    if isinstance(value, Mapping):
        return dict(value)
    return {} if value is None else {"type": value}


def parse_cli_option(value: str) -> dict[str, Any]:
    """Translate ``--deepspeed NAME|FILE`` into keys of the section ``strategy``.

    Raises:
        ConfigError: the value is neither a name in ``PRESETS`` nor a JSON file.
    """
    if value in PRESETS:
        return PRESETS[value]
    if not value.endswith(".json"):
        raise ConfigError(key="--deepspeed", got=value, expected=f"{', '.join(PRESETS)} or FILE.json")
    return {"config_file": os.path.abspath(value)}
