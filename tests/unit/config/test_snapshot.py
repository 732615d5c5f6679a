"""A config is checked with saved signatures, without torch."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xft.config import check, load_config, parse_overrides
from xft.config.snapshot import MAX_SNAPSHOTS, quick_check, save_snapshot
from xft.errors import ConfigError
from xft.registry import REGISTRY_BY_KEY
from xft.run_config.config import RunConfig
from xft.types import Message, Row
from xft.utils import paths

ROOT = Path(__file__).resolve().parents[3]
LEAVES = sorted((ROOT / "configs").glob("*.py"))
WRONG = [
    "data.max_lenght=3",
    "seed=x",
    "adapter.r=0",
    "adapter.type=lorra",
    "adapter=5",
    "data.on_overlong=cut",
    "data.type=instruktion",
    "data.val_split=[1]",
    "training.epochs=-1",
    "training.epoch=1",
    "optimizer.betas=[0.9]",
    "optimizer.betas=[0.9,x]",
    "lr_scheduler.warmup=1",
    "hooks.validation.batch_size=0",
    "hooks.validaton.interval=1",
    "hooks.x.type=y",
    "model.dtype=int4",
    "model.neftune_alpha=-1",
    "quantization=5bit",
    "learning_rate=1",
]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert not quick_check({}, "config")
        save_snapshot(RunConfig)
        yield


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_quick_check_passes_shipped_configs(leaf: Path) -> None:
    assert quick_check(load_config(leaf), str(leaf))


@pytest.mark.parametrize("option", WRONG)
@pytest.mark.parametrize("name", ["smollm2_lora", "smollm2_grpo"])
def test_quick_check_finds_the_same_mistakes_as_the_full_check(name: str, option: str) -> None:
    config = load_config(name, parse_overrides([option]))
    with pytest.raises(ConfigError) as quick:
        quick_check(config, name)
    with pytest.raises(ConfigError) as full:
        check(config, RunConfig, name)
    assert str(quick.value) == str(full.value)
    assert [cause.key for cause in quick.value.causes] == [cause.key for cause in full.value.causes]


def test_a_component_of_the_user_is_left_to_the_full_check() -> None:
    config = load_config("smollm2_lora", parse_overrides(["data.format=mine.rows", "seed=x"]))
    assert not quick_check(config, "config")


@pytest.fixture
def registered() -> Iterator[str]:
    """The name of a format that other code than xft has registered."""

    def rows(row: Row, column: str) -> list[Message]:
        return [Message("user", row[column])]

    REGISTRY_BY_KEY["format"].register_module(name="rows_of_mine", module=rows)
    yield "rows_of_mine"
    del REGISTRY_BY_KEY["format"].module_dict["rows_of_mine"]


def test_a_name_that_the_user_has_registered_is_left_to_the_full_check(registered: str) -> None:
    config = load_config("smollm2_lora", {"data.format": {"type": registered, "column": "a"}})
    assert not quick_check(config, "config")
    check(config, RunConfig)


def test_components_of_the_user_are_not_saved(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    save_snapshot(RunConfig)
    assert not list(tmp_path.iterdir())


def test_few_snapshots_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    for number in range(MAX_SNAPSHOTS + 2):
        old = tmp_path / f"signatures-{number}.json.{number}"
        old.write_text("{}")
        os.utime(old, (number, number))
    save_snapshot(RunConfig)
    kept = {file.name for file in tmp_path.iterdir()}
    assert len(kept) == MAX_SNAPSHOTS
    assert kept > {f"signatures-{number}.json.{number}" for number in range(3, MAX_SNAPSHOTS + 2)}


def test_a_snapshot_is_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("a = 1")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    assert not quick_check({}, "config")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"root": 1, "components": {}}'])
def test_a_damaged_snapshot_is_left_to_the_full_check(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))
    save_snapshot(RunConfig)
    (file,) = tmp_path.glob("signatures-*.json")
    file.write_text(text)
    assert not quick_check({}, "config")


def test_mistakes_are_reported_without_torch(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    rows = tmp_path / "rows.csv"
    rows.write_text("question,answer\nHi,Hello\n")
    values = load_config("smollm2_lora") | {"eval_prompts": []}
    values["data"] = {"type": "instruction", "path": str(rows)}
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    code = (
        "import sys; from xft.cli import main; code = main(sys.argv[1:]); "
        "print([code, *(name for name in ('torch', 'transformers') if name in sys.modules)])"
    )
    missing = str(tmp_path / "absent")
    for command, option, exit_code in (
        ("train", "data.max_lenght=3", 2),
        ("check", f"data.path={missing}.csv", 2),
        ("train", f"model.path={missing}", 4),
        ("check", f"eval_prompts={missing}.jsonl", 2),
        ("train", "data.format=dict(type=columns,user=questoin,assistant=answer)", 3),
    ):
        argv = [sys.executable, "-c", code, command, str(config), option]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert json.loads(done.stdout) == [exit_code], (option, done.stdout, done.stderr)
        assert option.partition("=")[0] in done.stderr or "questoin" in done.stderr
