"""Where things are."""

import json
import os
from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.utils import paths

ROOT = Path(__file__).resolve().parents[3]


def test_a_shipped_file_is_found_by_name() -> None:
    file = paths.asset("facts.jsonl")
    assert file == ROOT / "xft" / "assets" / "facts.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 100
    assert all({"instruction", "output"} <= set(each) for each in rows)


def test_the_shipped_questions_have_references() -> None:
    lines = paths.asset("facts_questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    assert all(json.loads(line)["reference"] for line in lines)


@pytest.mark.parametrize("name", ["fact.jsonl", "", "."])
def test_a_file_that_is_not_shipped_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        paths.asset(name)
    assert str(caught.value).startswith(f"xft://{name} is not shipped with xft")


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*'facts\.jsonl'"):
        paths.asset("fact.jsonl")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XFT_CACHE": "/big/disk", "XDG_CACHE_HOME": "/xdg"}, "/big/disk"),
        ({"XFT_CACHE": "~/own"}, "/home/ada/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/xft"),
        ({"XFT_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/xft"),
        ({}, "/home/ada/.cache/xft"),
        # The XDG base directory specification: "either not set or empty".
        ({"XDG_CACHE_HOME": ""}, "/home/ada/.cache/xft"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XFT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.cache_dir() == Path(expected)


def test_asking_for_the_cache_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path / "cache"))
    assert not paths.cache_dir().exists()


def test_the_configs_of_a_checkout_are_beside_the_package() -> None:
    assert paths.configs() == ROOT / "configs"


def test_the_configs_of_an_installed_package_are_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "xft"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert paths.configs() == package / "configs"


def test_write_text_refuses_a_link_and_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "link").symlink_to("mine.txt")
    with pytest.raises(ConfigError) as error:
        paths.write_text(tmp_path / "link", "new")
    assert (error.value.key, error.value.got) == (str(tmp_path / "link"), "a link to mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "kept"
    paths.write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").read_text() == "text"


def test_a_new_folder_can_be_created_below_the_nearest_one_that_exists(tmp_path: Path) -> None:
    assert paths.existing_parent(tmp_path) == paths.existing_parent(tmp_path / "a" / "b") == tmp_path
    paths.check_creatable(tmp_path, "OUT")
    paths.check_creatable(tmp_path / "a" / "café", "OUT")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/new", os.fsdecode(b"caf\xe9")])
def test_a_folder_in_which_no_model_can_be_saved_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as error:
        paths.check_creatable(tmp_path / name, "OUT")
    assert (error.value.key, error.value.got) == ("OUT", str(tmp_path / name))
