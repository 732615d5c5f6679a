"""The shipped configs: short, checked, written down without loss, none a copy of another."""

import ast
import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest

from xft.config import check, dump_config, load_config, parse_overrides
from xft.data.emoji import rows as emoji_rows
from xft.run_config.config import RunConfig

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "configs"
LEAVES = sorted(FOLDER.glob("*.py"))
BASES = sorted((FOLDER / "_base_").rglob("*.py"))
MADE = {  # in the user's cache, and no file of the package
    "xft://smollm2-135m-instruct",
    "xft://efficientnet-lite0",
    *(f"xft://{name}" for name in emoji_rows.NAMES),
}

each_leaf = pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)


def test_there_are_configs() -> None:
    assert {"internlm_qlora", "smollm2_lora", "smollm2_full"} <= {each.stem for each in LEAVES}


@each_leaf
def test_leaf_has_at_most_40_lines(leaf: Path) -> None:
    assert len(leaf.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("file", [*LEAVES, *BASES], ids=lambda file: str(file.relative_to(FOLDER)))
def test_config_has_one_docstring(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.endswith(".")


@each_leaf
def test_leaf_is_bases_and_differences(leaf: Path) -> None:
    assert "from ._base_." in leaf.read_text(encoding="utf-8")


@each_leaf
def test_check_passes(leaf: Path) -> None:
    config = load_config(leaf)
    assert {"model", "data"} <= set(config)
    check(config, RunConfig, str(leaf))


def _ways() -> list[list[str]]:
    """The options of the table of ways of tuning in docs/configs.md."""
    text = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\)\) \| (.*?) \|", text.partition("## Ways of tuning")[2], re.MULTILINE)
    options = [" ".join(re.findall(r"`([^`]+)`", row)).split() for row in rows]
    return [[each for each in row if "=" in each] for row in options]


@pytest.mark.parametrize("options", _ways(), ids=" ".join)
def test_documented_ways_of_tuning_are_keys(options: list[str]) -> None:
    assert options
    config = load_config(FOLDER / "smollm2_lora.py", parse_overrides(options))
    check(config, RunConfig)


def test_there_are_ways_of_tuning() -> None:
    assert len(_ways()) >= 9


@each_leaf
def test_load_dump_load_is_equal_and_the_dump_imports_nothing(leaf: Path, tmp_path: Path) -> None:
    config = load_config(leaf)
    text = dump_config(config, tmp_path / "config.py", root=RunConfig)
    assert "import" not in text
    statements = ast.parse(text).body
    assert all(isinstance(each, ast.Assign) for each in statements)
    assert load_config(tmp_path / "config.py", safe_config=True) == config
    again = load_config(tmp_path / "config.py")
    assert again == config
    assert dump_config(again, root=RunConfig) == text
    assert max(map(len, text.splitlines())) <= 108


@pytest.mark.parametrize(
    ("one", "other"),
    combinations(LEAVES, 2),
    ids=lambda file: file.stem if isinstance(file, Path) else None,
)
def test_leaves_differ(one: Path, other: Path) -> None:
    assert load_config(one) != load_config(other)


@each_leaf
def test_leaf_sets_only_values_that_differ_from_its_bases(leaf: Path, tmp_path: Path) -> None:
    """Each value lives once: without any one of its arguments, a leaf is another config."""
    shutil.copytree(FOLDER / "_base_", tmp_path / "_base_")
    source = leaf.read_text(encoding="utf-8")
    whole = load_config(leaf)
    idle = []
    for call, keyword in _arguments(ast.parse(source)):
        tree = ast.parse(source)
        next(node for number, node in _calls(tree) if number == call).keywords.pop(keyword)
        shorter = tmp_path / f"{leaf.stem}_{call}_{keyword}.py"
        shorter.write_text(ast.unparse(tree), encoding="utf-8")
        if load_config(shorter) == whole:
            node = next(node for number, node in _calls(ast.parse(source)) if number == call)
            idle.append(f"{ast.unparse(node.func)}: {ast.unparse(node.keywords[keyword])}")
    assert idle == []


def _calls(tree: ast.Module) -> list[tuple[int, ast.Call]]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords]
    return list(enumerate(found))


def _arguments(tree: ast.Module) -> list[tuple[int, int]]:
    return [(number, index) for number, call in _calls(tree) for index in range(len(call.keywords))]


@pytest.mark.parametrize("file", [*LEAVES, *BASES], ids=lambda file: str(file.relative_to(FOLDER)))
def test_files_that_a_config_names_exist(file: Path) -> None:
    named = re.findall(r"['\"](xft://[^'\"]+)['\"]", file.read_text(encoding="utf-8"))
    missing = [
        each
        for each in named
        if each not in MADE and not (ROOT / "xft/assets" / each.removeprefix("xft://")).is_file()
    ]
    assert missing == []


@each_leaf
def test_leaf_trains_for_several_steps_with_a_positive_rate(leaf: Path) -> None:
    config = load_config(leaf)
    assert 0 < config["optimizer"]["lr"] < 0.01
    assert config["training"]["epochs"] >= 1
    val_split = config["data"]["val_split"]
    assert isinstance(val_split, str) or val_split > 0
    assert config["seed"] == 0


def test_override_of_a_shipped_config() -> None:
    config = load_config(FOLDER / "smollm2_qlora.py", {"adapter.r": 4, "data.max_length": 64})
    assert config["adapter"] == {"type": "lora", "r": 4, "lora_alpha": 32, "lora_dropout": 0.0}
    assert config["data"]["max_length"] == 64
