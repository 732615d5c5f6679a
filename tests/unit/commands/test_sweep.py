from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.run_folders import write_run

from xft import cli
from xft.commands import sweep
from xft.commands.sweep import combinations, parse_settings, split_values
from xft.errors import ConfigError


def test_settings_have_full_keys_and_values_outside_of_brackets() -> None:
    values = parse_settings(["lr=1e-4,2e-4", "r=8", "adapter.target_modules=[q_proj,v_proj],all-linear"])
    assert values == {
        "optimizer.lr": ["1e-4", "2e-4"],
        "adapter.r": ["8"],
        "adapter.target_modules": ["[q_proj,v_proj]", "all-linear"],
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[a,[b,c],d],[e]", ["[a,[b,c],d]", "[e]"]),
        ("dict(type=x,sub=dict(a=1),r=2),none", ["dict(type=x,sub=dict(a=1),r=2)", "none"]),
        (
            "{type: lora, names: [a,b], r: 8},{type: lora}",
            ["{type: lora, names: [a,b], r: 8}", "{type: lora}"],
        ),
        ("'a,b.csv',c.csv", ["'a,b.csv'", "c.csv"]),
        ('"(a,",b', ['"(a,"', "b"]),
        ("['a]', 'b,c'],d", ["['a]', 'b,c']", "d"]),
        ("don't,do", ["don't", "do"]),
        ("a),b", ["a)", "b"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_values_are_split_outside_of_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values("key", text) == values


@pytest.mark.parametrize("text", ["[a,b", "'a,b", "dict(a=[1,2)"])
def test_brackets_and_quotes_that_are_not_closed_are_errors(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_values("key", text)
    assert (caught.value.key, caught.value.got) == ("key", text)


@pytest.mark.parametrize(
    "values",
    [
        {"data.path": ["a/b.csv", "a_b.csv", "a b.csv", "a%b.csv"]},
        {"model.path": ["Qwen/A", "qwen/a"]},
        {"adapter.type": ["lora", "LoRA"]},
        {"optimizer.lr": ["1", "2"], "model.lr": ["1", "2"]},
        {"a": ["1-b=2", "1"], "b": ["3", "2-b=3"]},
        {"data.system": ["x" * 300, "x" * 301]},
        {"adapter.target_modules": ["[q,v]", "[q_v]"]},
    ],
)
def test_runs_have_folders_of_their_own(values: dict[str, list[str]]) -> None:
    names = [name for name, _ in combinations(values)]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(len(name) < 200 and "/" not in name for name in names)
    # A run keeps its folder if the sweep gets other values.
    key = next(iter(values))
    if len(values) == 1 and any(not char.isalnum() for char in values[key][0]):
        more = {key: [*values[key], "other value"]}
        assert [name for name, _ in combinations(more)][: len(names)] == names


def test_runs_are_named_by_the_values_that_differ() -> None:
    runs = combinations({"optimizer.lr": ["1", "2"], "seed": ["7"], "adapter.r": ["8", "16"]})
    assert [name for name, _ in runs] == ["lr=1-r=8", "lr=1-r=16", "lr=2-r=8", "lr=2-r=16"]
    assert runs[-1][1] == ["optimizer.lr=2", "seed=7", "adapter.r=16"]


@pytest.mark.parametrize(
    "settings", [["lr"], ["lr=1", "optimizer.lr=2"], ["a=" + ",".join(map(str, range(101)))]]
)
def test_settings_that_make_no_sweep_are_errors(settings: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_settings(settings)


@pytest.mark.parametrize(("codes", "exit_code", "count"), [([0, 0], 0, 2), ([6, 0], 1, 2), ([130], 130, 1)])
def test_sweep_runs_all_combinations_and_ends_at_an_interruption(
    codes: list[int],
    exit_code: int,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[Sequence[str]] = []

    def run_train(words: Sequence[str]) -> int:
        calls.append(words)
        code = codes[len(calls) - 1]
        if not code:
            write_run(Path(words[words.index("--work-dir") + 1]), [2.0], plan={"steps": 1})
        return code

    monkeypatch.setattr(sweep, "run_train", run_train)
    arguments = ["sweep", "c.py", "lr=1,2", "--work-dir", str(tmp_path / "s"), "--data", "rows.csv"]
    assert cli.main(arguments) == exit_code
    assert len(calls) == count
    assert list(calls[0]) == [
        "c.py",
        "optimizer.lr=1",
        "--work-dir",
        str(tmp_path / "s" / "lr=1"),
        "--resume",
        "auto",
        "--data",
        "rows.csv",
    ]
    captured = capsys.readouterr()
    assert ("lr=2" in captured.out.split("validation")[-1]) == (count == 2)
    assert ("exit code 6" in captured.err) == (exit_code == 1)
