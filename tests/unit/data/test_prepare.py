"""Preparation in one process and in several, the cache, and hostile rows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import jinja_sources
from helpers.fake_images import FakeProcessor
from helpers.records import write_csv

from xft.data import InstructionData, PreferenceData, UnpairedPreferenceData, formats
from xft.data import prepare as preparing
from xft.data.sources import RecordReader, resolve_source
from xft.errors import DataError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Message, Row


def write(file: Path, rows: list[Row]) -> str:
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(file)


def qa(number: int) -> Row:
    return {"instruction": f"q{number}", "output": f"a{number}"}


def decoded(samples: Any, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(each.input_ids) for each in samples]


@pytest.fixture
def always_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare small files in several processes and many chunks too."""
    monkeypatch.setattr(preparing, "_SMALL", 0)
    monkeypatch.setattr(preparing, "_CHUNK_ROWS", 7)


def test_rows_of_a_vision_language_model_are_prepared_by_workers(
    tmp_path: Path, chatml: BoundTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that names an image takes longer than its bytes tell."""
    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(50)])
    monkeypatch.setattr(preparing, "_SMALL_WITH_IMAGES", 0)
    encode, workers = preparing._encode_in_processes, []

    def record(*arguments: Any) -> Any:
        workers.append(arguments[2])
        return encode(*arguments)

    monkeypatch.setattr(preparing, "_encode_in_processes", record)
    for number, processor in enumerate((None, FakeProcessor())):
        data = InstructionData(path, num_workers=2, cache_dir=str(tmp_path / str(number)))
        assert len(data.prepare(chatml.tokenizer, chatml, processor).train) > 0
        assert workers == [2] * number


@pytest.mark.usefixtures("always_parallel")
def test_several_workers_give_the_result_of_one(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) if number % 10 else {"instruction": "no answer"} for number in range(200)]
    path = write(tmp_path / "rows.jsonl", rows)

    def prepared(workers: int) -> Any:
        data = InstructionData(
            path, on_invalid="quarantine", num_workers=workers, cache_dir=str(tmp_path / f"cache{workers}")
        )
        return data.prepare(chatml.tokenizer, chatml)

    alone, together = prepared(1), prepared(3)
    assert decoded(together.train, chatml.tokenizer) == decoded(alone.train, chatml.tokenizer)
    assert decoded(together.val, chatml.tokenizer) == decoded(alone.val, chatml.tokenizer)
    assert together.report.to_dict() == alone.report.to_dict()
    assert len(together.train) + len(together.val) == 180


@pytest.mark.usefixtures("always_parallel")
def test_several_workers_raise_for_the_first_invalid_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) if number not in (50, 120) else {} for number in range(200)]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError) as caught:
        InstructionData(path, num_workers=2).prepare(chatml.tokenizer, chatml)
    assert caught.value.key == "instruction"
    assert str(caught.value).startswith(f"{path}:51: ")


@pytest.mark.usefixtures("always_parallel")
def test_killed_worker_raises_and_leaves_no_store(tmp_path: Path, chatml: BoundTemplate) -> None:
    parent = os.getpid()

    def deadly(row: Row) -> list[Message]:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(50)])
    cache = tmp_path / "cache"
    with pytest.raises(DataError) as caught:
        InstructionData(path, deadly, num_workers=2, cache_dir=str(cache)).prepare(chatml.tokenizer, chatml)
    assert caught.value.key == "data.num_workers"
    assert [each for each in cache.iterdir() if each.is_dir()] == []


def test_changed_template_or_file_is_prepared_again(tmp_path: Path, byte_tokenizer: Any) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(0), qa(1)])

    def texts(template: str) -> list[str]:
        bound = ChatTemplate(SOURCES[template]).bind(byte_tokenizer)
        return decoded(
            InstructionData(path, val_split=None).prepare(byte_tokenizer, bound).train, byte_tokenizer
        )

    first = texts("chatml")
    assert texts("zephyr") != first
    assert texts("chatml") == first
    write(tmp_path / "rows.jsonl", [qa(0), qa(2)])
    assert texts("chatml") == [first[0], first[1].replace("q1", "q2").replace("a1", "a2")]


@pytest.mark.parametrize(("prefix", "num_stores"), [("{{ strftime_now('%d %b %Y') }}", 2), ("", 1)])
def test_template_that_writes_the_date_is_prepared_again_on_another_day(
    tmp_path: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, prefix: str, num_stores: int
) -> None:
    data = InstructionData(write(tmp_path / "a.jsonl", [qa(1), qa(2)]), cache_dir=str(tmp_path / "cache"))
    template = ChatTemplate(prefix + SOURCES["chatml"]).bind(byte_tokenizer)
    for day in ("2031-05-04", "2031-05-05"):
        monkeypatch.setattr(preparing.time, "strftime", lambda layout, day=day: day)
        data.prepare(byte_tokenizer, template)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == num_stores


def test_equal_content_of_another_file_names_that_file(tmp_path: Path, chatml: BoundTemplate) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        path = write(tmp_path / name, [qa(0), {"instruction": "q"}])
        data = InstructionData(path, val_split=None, on_invalid="quarantine")
        assert data.prepare(chatml.tokenizer, chatml).report.quarantined[0]["file"] == path


def test_on_duplicate_counts_or_drops_equal_rows(tmp_path: Path, chatml: BoundTemplate) -> None:
    one = write(tmp_path / "a.jsonl", [qa(0), qa(1), qa(0)])
    two = write(tmp_path / "b.jsonl", [qa(2), qa(1)])
    kept = InstructionData([one, two], val_split=None).prepare(chatml.tokenizer, chatml)
    assert (len(kept.train), kept.report.exact_duplicates) == (5, 2)
    dropped = InstructionData([one, two], val_split=None, on_duplicate="drop").prepare(
        chatml.tokenizer, chatml
    )
    assert ["q0" in each for each in decoded(dropped.train, chatml.tokenizer)] == [True, False, False]
    assert dropped.report.rows_dropped == {"exact duplicate": 2}
    assert dropped.report.rows_read == dropped.report.rows_train + 2 == 5


def test_preference_data_has_two_samples_per_pair(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(3)]
    path = write(tmp_path / "rows.jsonl", rows)
    data = PreferenceData(path, val_split=None, max_length=40)
    prepared = data.prepare(chatml.tokenizer, chatml)
    assert (prepared.samples_per_example, data.pack_length, len(prepared.train)) == (2, 80, 6)
    frame = "<|im_start|>user\nq{}<|im_end|>\n<|im_start|>assistant\n{} {}<|im_end|>\n"
    assert decoded(prepared.train, chatml.tokenizer) == [
        frame.format(number, word, number) for number in range(3) for word in ("good", "bad")
    ]
    trained = [each.labels[each.labels != IGNORE_INDEX] for each in prepared.train[:2]]
    assert [chatml.tokenizer.decode(each) for each in trained] == ["good 0<|im_end|>", "bad 0<|im_end|>"]


def test_preference_data_drops_a_pair_with_one_long_answer(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b" * number} for number in (1, 60)]
    path = write(tmp_path / "rows.jsonl", rows)
    prepared = PreferenceData(path, val_split=None, max_length=40, max_overlong_fraction=0.5).prepare(
        chatml.tokenizer, chatml
    )
    assert len(prepared.train) == 2
    assert prepared.report.rows_dropped == {"longer than max_length": 1}


def test_preference_data_with_a_conversation_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(0)])
    with pytest.raises(DataError) as caught:
        PreferenceData(path, formats.alpaca, val_split=None).prepare(chatml.tokenizer, chatml)
    assert (caught.value.key, caught.value.got) == ("data.format", "list")


def test_unpaired_preference_data_keeps_the_label(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [
        {"prompt": "q", "completion": "a", "label": True},
        {"prompt": "q", "completion": "b", "label": False},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    prepared = UnpairedPreferenceData(path, val_split=None).prepare(chatml.tokenizer, chatml)
    assert [each.desirable for each in prepared.train] == [True, False]


def test_packing_keeps_pairs_whole() -> None:
    from xft.data import EpochBatchSampler

    generator = np.random.default_rng(0)
    pairs = generator.integers(10, 200, (100, 2))
    plan = EpochBatchSampler(tuple(pairs.sum(axis=1).tolist()), pack_length=512)
    rows = plan.epoch_sequences(0)
    assert sorted(each for row in rows for each in row) == list(range(100))
    assert all(pairs[row].sum() <= 512 for row in rows)


def test_conversation_of_ten_thousand_turns_is_encoded_or_truncated(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": str(number)} for number in range(10_000)
    ]
    path = write(tmp_path / "rows.jsonl", [{"messages": turns}])
    whole = InstructionData(path, formats.openai, max_length=10**6, val_split=None)
    [sample] = whole.prepare(chatml.tokenizer, chatml).train
    text = chatml.tokenizer.decode(sample.input_ids)
    assert text.count("<|im_end|>") == 10_000
    assert int((sample.labels == chatml.tokenizer.convert_tokens_to_ids("<|im_end|>")).sum()) == 5_000
    cut = InstructionData(
        path,
        formats.openai,
        max_length=300,
        on_overlong="truncate",
        max_overlong_fraction=1.0,
        val_split=None,
    )
    [sample] = cut.prepare(chatml.tokenizer, chatml).train
    text = chatml.tokenizer.decode(sample.input_ids)
    assert 200 < len(sample) <= 300
    assert text.endswith("<|im_start|>assistant\n9999<|im_end|>\n")
    assert text.startswith("<|im_start|>user\n99")


def test_format_may_be_a_generator(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> Iterator[Message]:
        yield Message("user", row["instruction"])
        yield Message("assistant", row["output"], True)

    path = write(tmp_path / "rows.jsonl", [qa(0)])
    assert len(InstructionData(path, mine, val_split=None).prepare(chatml.tokenizer, chatml).train) == 1


def test_file_that_changes_during_preparation_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(20)])

    def mine(row: Row) -> list[Message]:
        if row["instruction"] == "q10":
            write(tmp_path / "rows.jsonl", [qa(number) for number in range(30)])
        return list(formats.alpaca(row))

    with pytest.raises(DataError) as caught:
        InstructionData(path, mine).prepare(chatml.tokenizer, chatml)
    assert (caught.value.key, caught.value.got) == ("data.path", path)


ORPHANS = """
import os, sys, time
from xft.data import InstructionData, prepare
from xft.data.formats import alpaca
from transformers import PreTrainedTokenizerFast
from xft.templates import SOURCES, ChatTemplate

prepare._SMALL = 0
prepare._CHUNK_ROWS = 1

def slow(row):
    os.write(1, b"begun\\n")  # one write: two workers that begin together do not share a line
    time.sleep(0.2)
    return alpaca(row)

tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
template = ChatTemplate(SOURCES["chatml"]).bind(tokenizer)
InstructionData(sys.argv[2], slow, num_workers=2, cache_dir=sys.argv[3]).prepare(tokenizer, template)
"""


def test_workers_exit_when_their_parent_is_killed(tmp_path: Path, byte_tokenizer: Any) -> None:
    byte_tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(500)])
    command = [sys.executable, "-c", ORPHANS, str(tmp_path / "tokenizer"), path, str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_conversation_with_hundreds_of_tool_results_is_truncated(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    """One question and 400 tool results: there is no older exchange to remove."""
    turns: list[Row] = [{"role": "user", "content": "q"}]
    turns += [
        {"role": "assistant" if number % 2 else "tool", "content": "x" * 100} for number in range(1, 401)
    ]
    turns.append({"role": "assistant", "content": "done"})
    path = write(tmp_path / "rows.jsonl", [{"messages": turns}])
    data = InstructionData(
        path,
        formats.openai,
        max_length=20_000,
        on_overlong="truncate",
        max_overlong_fraction=1.0,
        val_split=None,
    )
    [sample] = data.prepare(byte_tokenizer, ChatTemplate(SOURCES["qwen3"]).bind(byte_tokenizer)).train
    assert 19_000 < len(sample) <= 20_000


class _Stopping:
    """An encoder with a bug: it exhausts an iterator."""

    processor = None

    def __call__(self, records: Any) -> Any:
        return next(iter(()))


def test_encoder_that_exhausts_an_iterator_raises(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(0)])
    spec = preparing.PrepareSpec(resolve_source(path), "train", False, 0, 1, tmp_path)
    with pytest.raises(RuntimeError):
        list(preparing._encode(spec, _Stopping(), RecordReader(spec.source)))  # type: ignore[arg-type]


def test_template_options_and_variables_of_rows_reach_the_labels(
    tmp_path: Path, make_byte_tokenizer: Callable[..., Any]
) -> None:
    """The cache tells options of the template apart, and rows with other variables are no duplicates."""
    turns = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}]
    documents = [{"title": "Sky", "text": "Dry.", "place": "Oslo"}]
    rows = [{"messages": turns}, {"messages": turns, "documents": documents}]
    path = write(tmp_path / "rows.jsonl", rows)
    tokenizer = make_byte_tokenizer(specials=jinja_sources.SPECIALS)
    source = "{% for d in documents or [] %}{{ d.text }}{% endfor %}" + jinja_sources.OPENED_THOUGHT
    texts = {}
    for empty_thought in ("mask", "train"):
        template = ChatTemplate(source, empty_thought=empty_thought).bind(tokenizer)
        data = InstructionData(
            path,
            formats.openai,
            val_split=None,
            on_duplicate="drop",
            num_workers=1,
            cache_dir=str(tmp_path / "cache"),
        )
        samples = data.prepare(tokenizer, template).train
        assert sorted(text.startswith("Dry.") for text in decoded(samples, tokenizer)) == [False, True]
        texts[empty_thought] = {
            tokenizer.decode(sample.labels[sample.labels != IGNORE_INDEX]) for sample in samples
        }
    assert texts == {"mask": {"No.<|im_end|>"}, "train": {"\n</think>\n\nNo.<|im_end|>"}}


def test_answer_in_json_that_looks_like_turns_is_trained_as_text(
    tmp_path: Path, chatml: BoundTemplate, always_parallel: None
) -> None:
    """A column of texts, some of which look like turns; next to it, a column of turns."""
    turns = json.dumps([{"role": "assistant", "content": "Yes"}])
    prompt = json.dumps([{"role": "user", "content": "Write a turn."}])
    rows = [{"prompt": prompt, "completion": turns}, {"prompt": prompt, "completion": "No"}]

    def targets(path: str) -> tuple[list[str], list[str]]:
        data = InstructionData(path, format=formats.prompt_completion, val_split=None, num_workers=2)
        prepared = data.prepare(chatml.tokenizer, chatml)
        labels = [sample.labels[sample.labels != IGNORE_INDEX] for sample in prepared.train]
        return [chatml.tokenizer.decode(ids) for ids in labels], prepared.report.to_dict()["turn_columns"]

    answers = [f"{turns}<|im_end|>", "No<|im_end|>"]
    assert targets(write(tmp_path / "rows.jsonl", rows)) == (answers, [])
    assert targets(write_csv(tmp_path, rows)) == (answers, ["prompt"])
    assert targets(write_csv(tmp_path, rows[:1])) == (["Yes<|im_end|>"], ["completion", "prompt"])
