"""The data page: completeness of its samples, and escaping of untrusted rows."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from xft.data import (
    DataReport,
    InstructionData,
    PreferenceData,
    PreparedData,
    SampleView,
    UnpairedPreferenceData,
    formats,
)
from xft.errors import ConfigError
from xft.reporting import data_page
from xft.reporting.data_page import check_target, write_data_page
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Row, Sample

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- \" ' & {{data}} {{title}}"


class Parsed(HTMLParser):
    """Elements, attributes and text of a page, as a browser parses it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in_script = False
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        """Data embedded for the script."""
        data: dict[str, Any] = json.loads(self.scripts[0])
        return data


@pytest.fixture(scope="module")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


def write(file: Path, rows: list[Row]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def prepare(tmp_path: Path, chatml: BoundTemplate) -> Callable[..., PreparedData]:
    """Prepare Alpaca rows, or rows for another data set class."""

    def make(rows: list[Row], kind: Any = InstructionData, **options: Any) -> PreparedData:
        path = write(tmp_path / "rows.jsonl", rows)
        data = kind(path, cache_dir=str(tmp_path / "cache"), **options)
        prepared: PreparedData = data.prepare(chatml.tokenizer, chatml)
        return prepared

    return make


def numbered(count: int) -> list[Row]:
    return [{"instruction": f"q{number}", "output": f"a{number} 你好 🎉"} for number in range(count)]


def ids_of(side: dict[str, Any]) -> list[int]:
    return [token for _, _, ids in side["spans"] for token in ids]


def labels_of(side: dict[str, Any]) -> list[int]:
    return [token if mark & 1 else IGNORE_INDEX for mark, _, ids in side["spans"] for token in ids]


def text_of(side: dict[str, Any]) -> str:
    return "".join(text for _, text, _ in side["spans"])


def assert_shows(side: dict[str, Any], sample: Sample, tokenizer: Any) -> None:
    assert ids_of(side) == sample.input_ids.tolist()
    assert labels_of(side) == sample.labels.tolist()
    assert text_of(side) == tokenizer.decode(sample.input_ids.tolist())
    assert (side["tokens"], side["targets"]) == (len(sample), sample.num_targets)


def test_page_contains_every_sample(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    prepared = prepare(numbered(12), val_split=3)
    assert write_data_page(tmp_path / "p.html", "mine.py", prepared, byte_tokenizer) == [
        tmp_path / "p.html"
    ]
    parsed = Parsed(tmp_path / "p.html")
    assert parsed.text.count("mine.py") == 2
    for name, samples in (("train", prepared.train), ("val", prepared.val)):
        items = parsed.data["embedded"][name]
        assert len(items) == len(samples) == parsed.data["splits"][name]["count"]
        for index, item in enumerate(items):
            [side] = item["sides"]
            assert_shows(side, samples[index], byte_tokenizer)
            number = int(re.search(r"\nq(\d+)<", text_of(side))[1])  # type: ignore[index]
            assert item["origin"] == f"{tmp_path / 'rows.jsonl'}:{number + 1}"


def test_page_marks_only_template_tokens_as_special(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    write_data_page(tmp_path / "p.html", "p", prepare(numbered(3), val_split=1), byte_tokenizer)
    side = Parsed(tmp_path / "p.html").data["embedded"]["train"][0]["sides"][0]
    special = [text for mark, text, ids in side["spans"] if mark & 2 and len(ids) == 1]
    assert special == ["<|im_start|>", "<|im_end|>"] * (len(special) // 2)
    assert len(special) >= 4
    assert not any("<|" in text for mark, text, _ in side["spans"] if not mark & 2)


def test_hostile_rows_stay_text(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    plain = tmp_path / "plain.html"
    bad: list[Row] = [{"x": HOSTILE}, {"x": "y"}]
    write_data_page(
        plain, "p", prepare([*numbered(4), *bad[1:]], val_split=1, on_invalid="quarantine"), byte_tokenizer
    )
    rows = [*numbered(3), {"instruction": HOSTILE, "output": HOSTILE}, *bad[:1]]
    prepared = prepare(rows, val_split=1, on_invalid="quarantine", split_seed=1)
    write_data_page(tmp_path / "p.html", HOSTILE, prepared, byte_tokenizer)
    parsed = Parsed(tmp_path / "p.html")

    # Except for histograms, the tags equal those of a page of harmless rows.
    def kinds(found: Parsed) -> list[str]:
        return [tag for tag, _ in found.tags if tag not in ("tr", "th", "td", "i")]

    assert kinds(parsed) == kinds(Parsed(plain))
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert parsed.text.count(HOSTILE) == 2  # title and heading
    assert json.dumps({"x": HOSTILE}) in parsed.text  # in the quarantine table
    shown = [text_of(each["sides"][0]) for split in parsed.data["embedded"].values() for each in split]
    assert sum(text.count(HOSTILE) for text in shown) == 2
    assert "<" not in parsed.scripts[0]


def test_policy_permits_only_the_scripts_of_the_page(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    write_data_page(tmp_path / "p.html", "p", prepare(numbered(3), val_split=1), byte_tokenizer)
    parsed = Parsed(tmp_path / "p.html")
    [policy] = [a["content"] for t, a in parsed.tags if t == "meta" and a.get("http-equiv")]
    rules = dict(each.strip().split(" ", 1) for each in str(policy).split(";"))
    scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'nonce-{scripts[1]['nonce']}'"
    assert scripts[0] == {"type": "application/json", "id": "data"}
    assert not any(name in ("src", "href") for _, attributes in parsed.tags for name in attributes)
    assert "http://" not in parsed.scripts[1]
    assert "https://" not in parsed.scripts[1]


def test_scripts_are_valid_javascript(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    files = write_data_page(
        tmp_path / "p.html", "p", prepare(numbered(3), val_split=1), byte_tokenizer, max_embedded=0
    )
    script = tmp_path / "page.js"
    script.write_text(Parsed(files[0]).scripts[1], encoding="utf-8")
    for each in [script, *files[1:]]:
        done = subprocess.run([node, "--check", each], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def loaded(file: Path) -> tuple[str, list[Any]]:
    """Return file name and items that a script file passes to the page."""
    match = re.fullmatch(r"xftSamples\((.*)\);\n", file.read_text(encoding="ascii"), re.DOTALL)
    assert match is not None, file
    name, items = json.loads(f"[{match[1]}]")
    return name, items


def test_many_samples_are_written_to_script_files(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    prepared = prepare(numbered(25), val_split=5)
    write_data_page(tmp_path / "whole.html", "p", prepared, byte_tokenizer)
    target = tmp_path / "a page.html"
    files = write_data_page(target, "p", prepared, byte_tokenizer, max_embedded=24, chunk_examples=8)
    folder = tmp_path / "a page_samples"
    assert files == [target, *(folder / f"000{number}.js" for number in (1, 2, 3, 4))]
    data, whole = Parsed(target).data, Parsed(tmp_path / "whole.html").data["embedded"]
    assert data["embedded"] == {}
    assert data["folder"] == "a%20page_samples"
    assert data["splits"]["train"] == {
        "count": 20,
        "begins": [0, 8, 16],
        "files": ["0001.js", "0002.js", "0003.js"],
    }
    for name, split in data["splits"].items():
        handed = [loaded(folder / file) for file in split["files"]]
        assert [name for name, _ in handed] == split["files"]
        assert [each for _, items in handed for each in items] == whole[name]

    # A smaller page removes the folder of the earlier page.
    assert write_data_page(target, "p", prepared, byte_tokenizer, max_embedded=25) == [target]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "a page.html",
        "cache",
        "rows.jsonl",
        "whole.html",
    ]


def test_script_files_of_long_samples_contain_fewer(
    tmp_path: Path,
    prepare: Callable[..., PreparedData],
    byte_tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = prepare(numbered(10), val_split=0)
    longest = int(prepared.train.lengths.max())
    monkeypatch.setattr(data_page, "_CHUNK_TOKENS", 3 * longest)
    _, *files = write_data_page(tmp_path / "p.html", "p", prepared, byte_tokenizer, max_embedded=0)
    # All rows are equally long: a one-digit number, two characters of Chinese, an emoji.
    assert [len(loaded(each)[1]) for each in files] == [3, 3, 3, 1]


def test_pairs_are_labeled_chosen_and_rejected(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    rows = [{"prompt": f"q{at}", "chosen": f"yes {at}", "rejected": f"no {at}"} for at in range(6)]
    prepared = prepare(rows, PreferenceData, format=formats.preference, val_split=2)
    write_data_page(tmp_path / "p.html", "p", prepared, byte_tokenizer)
    data = Parsed(tmp_path / "p.html").data
    assert data["unit"] == 2
    assert [each["count"] for each in data["splits"].values()] == [4, 2]
    for at, item in enumerate(data["embedded"]["train"]):
        better, worse = item["sides"]
        assert (better["name"], worse["name"]) == ("chosen", "rejected")
        assert_shows(better, prepared.train[2 * at], byte_tokenizer)
        assert_shows(worse, prepared.train[2 * at + 1], byte_tokenizer)
        number = re.search(r"yes (\d)", text_of(better))
        assert number is not None
        assert f"no {number[1]}" in text_of(worse)
        assert item["origin"].endswith(f":{int(number[1]) + 1}")


def test_unpaired_answers_are_labeled(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    rows = [{"prompt": f"q{at}", "completion": f"a{at}", "label": at % 2 == 0} for at in range(4)]
    prepared = prepare(rows, UnpairedPreferenceData, format=formats.kto, val_split=0)
    write_data_page(tmp_path / "p.html", "p", prepared, byte_tokenizer)
    for item in Parsed(tmp_path / "p.html").data["embedded"]["train"]:
        [side] = item["sides"]
        even = re.search(r"\na[02]<", text_of(side)) is not None
        assert side["name"] == ("desirable" if even else "undesirable")


def test_check_target_refuses_files_of_other_programs(
    tmp_path: Path, prepare: Callable[..., PreparedData], byte_tokenizer: Any
) -> None:
    prepared = prepare(numbered(3), val_split=1)
    (tmp_path / "q_samples").mkdir()
    (tmp_path / "q_samples" / "mine.txt").write_text("mine", encoding="utf-8")
    for target in ("rows.jsonl", "nowhere/p.html", ".", "q.html"):
        with pytest.raises(ConfigError) as error:
            write_data_page(tmp_path / target, "p", prepared, byte_tokenizer)
        assert error.value.key == "--html"
        assert error.value.got
    assert not (tmp_path / "q.html").exists()
    assert (tmp_path / "q_samples" / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert check_target(tmp_path / "p.html") == tmp_path / "p.html"


def test_near_duplicates_are_listed_with_the_total(tmp_path: Path, byte_tokenizer: Any) -> None:
    ledger = DataReport(near_duplicates=7, near_examples=[("a:1", "a:9", 0.876)])
    prepared = PreparedData(SampleView([]), SampleView([]), ledger)
    write_data_page(tmp_path / "p.html", "p", prepared, byte_tokenizer)
    text = Parsed(tmp_path / "p.html").text
    assert "Near duplicates: 7" in text
    assert "1 of 7 " in text
    assert "a:9a:188%" in text
    assert "Quarantined" not in text
