"""Suggestions: config changes that can be typed as they are printed."""

from pathlib import Path

import pytest
from helpers.plans import plan_of

from xft.config import build, check, load_config, parse_overrides
from xft.run_config.config import RunConfig
from xft.training.dry_run.suggestions import suggest_less_memory

ROOT = Path(__file__).resolve().parents[4]
LEAVES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_suggestion_is_accepted_as_config_override(leaf: Path) -> None:
    run_config = build(load_config(leaf), RunConfig)
    plan = plan_of([5] * 64, 8, micro_batch_size=6, gradient_accumulation_steps=2)
    phases = (
        "model",
        "setup",
        "forward",
        "backward",
        "optimizer",
        "validation",
        "generation",
        "checkpoint",
    )
    typed = 0
    for phase in phases:
        lines = suggest_less_memory(phase, run_config, plan)
        assert lines
        for line in lines:
            options = [part.rstrip(",") for part in line.partition("  (")[0].split() if "=" in part]
            if not options or "…" in line:
                continue
            config = load_config(leaf, parse_overrides(options))
            check(config, RunConfig, str(leaf))
            if not any(option.startswith("optimizer.type=") for option in options):  # needs a GPU
                build(config, RunConfig)
            typed += 1
    assert typed >= 4


def test_smaller_micro_batch_keeps_size_of_optimizer_step() -> None:
    run_config = build(load_config(LEAVES[0]), RunConfig)
    for size, accumulation in ((6, 2), (5, 3)):
        [first, *_] = suggest_less_memory(
            "forward",
            run_config,
            plan_of([5] * 64, 8, micro_batch_size=size, gradient_accumulation_steps=accumulation),
        )
        values = parse_overrides(first.partition("  (")[0].split())
        assert values["training.micro_batch_size"] < size
        assert (
            values["training.micro_batch_size"] * values["training.gradient_accumulation_steps"]
            == size * accumulation
        )
