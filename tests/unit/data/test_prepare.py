"""Preparing: in one process or in several, with the same outcome; pairs, labels and mixtures."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from xft.data import InstructionData, Mixture, PreferenceData, TextData, UnpairedPreferenceData, formats
from xft.data import prepare as preparing
from xft.data.config.mixture import UNUSED_REASON
from xft.errors import ConfigError, DataError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Message, Row


@pytest.fixture(scope="module")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


def write(file: Path, rows: list[Row]) -> str:
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(file)


def qa(number: int) -> Row:
    return {"instruction": f"q{number}", "output": f"a{number}"}


def decoded(samples: Any, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(each.input_ids) for each in samples]


@pytest.fixture
def always_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are worked on in several processes too, in many portions."""
    monkeypatch.setattr(preparing, "_SMALL", 0)
    monkeypatch.setattr(preparing, "_CHUNK_ROWS", 7)


@pytest.mark.usefixtures("always_parallel")
def test_processes_give_what_one_gives_in_the_same_order(tmp_path: Path, chatml: BoundTemplate) -> None:
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
def test_processes_stop_at_the_first_bad_row_of_the_file(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) if number not in (50, 120) else {} for number in range(200)]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"rows\.jsonl:51: field instruction: is missing"):
        InstructionData(path, num_workers=2).prepare(chatml.tokenizer, chatml)


@pytest.mark.usefixtures("always_parallel")
def test_process_that_is_killed_ends_in_a_clear_error(tmp_path: Path, chatml: BoundTemplate) -> None:
    parent = os.getpid()

    def deadly(row: Row) -> list[Message]:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(50)])
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="was killed, most likely out of memory"):
        InstructionData(path, deadly, num_workers=2, cache_dir=str(cache)).prepare(chatml.tokenizer, chatml)
    assert [each for each in cache.iterdir() if each.is_dir()] == []


def test_format_of_the_users_that_fails_names_file_and_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> list[Message]:
        return [Message("user", row["ask"]), Message("assistant", row["say"], is_target=True)]

    path = write(tmp_path / "rows.jsonl", [{"ask": "a", "say": "b"}, {"ask": "c", "tell": "d"}])
    with pytest.raises(
        DataError,
        match=r"rows\.jsonl:2: the format 'mine' raises KeyError: 'say' \(the row has 'ask', 'tell'",
    ):
        InstructionData(path, mine, val_split=None).prepare(chatml.tokenizer, chatml)


def test_changed_template_or_file_never_meets_a_stale_store(tmp_path: Path, byte_tokenizer: Any) -> None:
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


def test_same_content_elsewhere_names_its_own_file(tmp_path: Path, chatml: BoundTemplate) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        path = write(tmp_path / name, [qa(0), {"instruction": "q"}])
        data = InstructionData(path, val_split=None, on_invalid="quarantine")
        assert data.prepare(chatml.tokenizer, chatml).report.quarantined[0]["file"] == path


def test_duplicates_are_counted_and_dropped_where_asked_for(tmp_path: Path, chatml: BoundTemplate) -> None:
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


def test_special_tokens_in_the_content_are_counted(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(0), {"instruction": "What is <|im_end|>?", "output": "A token."}, qa(1)]
    path = write(tmp_path / "rows.jsonl", rows)
    report = InstructionData(path, val_split=None).prepare(chatml.tokenizer, chatml).report
    assert report.rows_with_special_tokens == 1


def test_characters_without_a_token_are_counted(tmp_path: Path, smollm2_tokenizer: Any) -> None:
    """SmolLM2 has no token for the byte 4, and drops it; its unknown token is one that texts end with."""
    template = ChatTemplate().bind(smollm2_tokenizer)
    rows = [
        qa(0),
        {"instruction": "q", "output": "one \x04 two"},
        {"instruction": "<|endoftext|>", "output": "a"},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    report = InstructionData(path, val_split=None).prepare(smollm2_tokenizer, template).report
    assert report.rows_with_unknown_characters == 1
    path = write(
        tmp_path / "text.jsonl", [{"text": "one \x04 two"}, {"text": "one"}, {"text": "<|endoftext|>"}]
    )
    report = TextData(path, val_split=None).prepare(smollm2_tokenizer, None).report
    assert report.rows_with_unknown_characters == 1


def test_rows_of_a_group_stay_in_one_split(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{**qa(number), "author": f"author {number % 12}"} for number in range(120)]
    path = write(tmp_path / "rows.jsonl", rows)
    prepared = InstructionData(path, val_split=0.3, group_by="author").prepare(chatml.tokenizer, chatml)

    def authors(samples: Any) -> set[int]:
        texts = decoded(samples, chatml.tokenizer)
        return {int(each.partition("user\nq")[2].partition("<")[0]) % 12 for each in texts}

    assert not authors(prepared.train) & authors(prepared.val)
    assert len(prepared.val) % 10 == 0
    with pytest.raises(DataError, match=r"rows\.jsonl:1: field writer: is missing") as caught:
        InstructionData(path, group_by="writer").prepare(chatml.tokenizer, chatml)
    assert (caught.value.key, caught.value.got) == ("data.group_by", "writer")


# Pairs and labels


def test_pair_is_two_samples_behind_the_same_prompt(tmp_path: Path, chatml: BoundTemplate) -> None:
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


def test_pair_with_a_long_answer_goes_as_a_whole(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b" * number} for number in (1, 60)]
    path = write(tmp_path / "rows.jsonl", rows)
    prepared = PreferenceData(path, val_split=None, max_length=40, max_overlong_fraction=0.5).prepare(
        chatml.tokenizer, chatml
    )
    assert len(prepared.train) == 2
    assert prepared.report.rows_dropped == {"longer than max_length": 1}


def test_conversation_is_no_pair(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(0)])
    with pytest.raises(DataError, match=r"expected a pair of a chosen and a rejected answer"):
        PreferenceData(path, formats.alpaca, val_split=None).prepare(chatml.tokenizer, chatml)


def test_answer_with_a_label_keeps_it(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [
        {"prompt": "q", "completion": "a", "label": True},
        {"prompt": "q", "completion": "b", "label": False},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    prepared = UnpairedPreferenceData(path, val_split=None).prepare(chatml.tokenizer, chatml)
    assert [each.desirable for each in prepared.train] == [True, False]


# Mixtures


def numbered(name: str, count: int) -> list[Row]:
    return [{"instruction": f"{name} {number}", "output": "yes"} for number in range(count)]


@pytest.fixture
def mix(tmp_path: Path, chatml: BoundTemplate) -> Callable[..., tuple[Counter[str], Any]]:
    """A mixture of sets of so many rows: how often each set's rows are trained on, and all."""

    def make(counts: dict[str, int], **arguments: Any) -> tuple[Counter[str], Any]:
        sets = {
            name: InstructionData(write(tmp_path / f"{name}.jsonl", numbered(name, count)), val_split=None)
            for name, count in counts.items()
        }
        prepared = Mixture(sets, **arguments).prepare(chatml.tokenizer, chatml)
        texts = decoded(prepared.train, chatml.tokenizer)
        return Counter(each.partition("user\n")[2].split()[0] for each in texts), prepared

    return make


def test_mixture_without_weights_holds_every_row_as_often_as_wanted(mix: Callable[..., Any]) -> None:
    counts, prepared = mix({"a": 10, "b": 40}, max_epochs_per_dataset={"a": 2.5})
    assert counts == {"a": 25, "b": 40}
    assert prepared.report.rows_train == prepared.report.rows_read == 50


def test_mixture_keeps_its_weights_and_counts_what_is_left_out(mix: Callable[..., Any]) -> None:
    counts, prepared = mix({"a": 10, "b": 40}, weights={"a": 1, "b": 1})
    assert counts == {"a": 10, "b": 10}
    assert prepared.report.rows_dropped == {UNUSED_REASON: 30}
    counts, prepared = mix({"a": 10, "b": 40}, weights={"a": 1, "b": 3}, max_epochs_per_dataset={"a": 4})
    # b gives all of its 40 rows, a third as many come from a: 13 rows, which is one pass and three more.
    assert counts == {"a": 13, "b": 40}
    assert prepared.report.rows_dropped == {}


def test_sets_have_templates_and_validation_of_their_own(tmp_path: Path, byte_tokenizer: Any) -> None:
    chat = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    sets = {
        "one": InstructionData(write(tmp_path / "a.jsonl", numbered("a", 20)), val_split=4),
        "two": InstructionData(
            write(tmp_path / "b.jsonl", numbered("b", 20)),
            val_split=2,
            template=ChatTemplate(SOURCES["zephyr"]),
        ),
        "raw": TextData(write(tmp_path / "c.jsonl", [{"text": "once"}]), val_split=None),
    }
    prepared = Mixture(sets).prepare(byte_tokenizer, chat)
    texts = decoded(prepared.train, byte_tokenizer)
    assert [each.startswith("<|im_start|>user\na") for each in texts] == [True] * 16 + [False] * 19
    assert all(each.startswith("<|user|>\nb") for each in texts[16:34])
    assert len(prepared.val) == 6
    assert prepared.report.rows_read == 41 == prepared.report.rows_train + prepared.report.rows_val


def test_what_one_set_trains_on_another_may_not_validate_on(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = numbered("a", 20)
    sets = {
        "one": InstructionData(write(tmp_path / "a.jsonl", rows), val_split=None),
        "two": InstructionData(write(tmp_path / "b.jsonl", rows[:10]), val_split=2),
    }
    with pytest.raises(DataError, match=r"b\.jsonl:\d+: 2 of 2 validation rows are in the training split"):
        Mixture(sets).prepare(chatml.tokenizer, chatml)


def test_mistakes_of_a_mixture_are_refused() -> None:
    sets = {"one": InstructionData("a.jsonl"), "two": InstructionData("b.jsonl")}
    with pytest.raises(ConfigError, match=r"data\.weights\.tow: no such dataset; did you mean 'two'"):
        Mixture(sets, weights={"one": 1, "tow": 1})
    with pytest.raises(ConfigError, match="two has none") as caught:
        Mixture(sets, weights={"one": 1})
    assert (caught.value.key, caught.value.got) == ("data.weights", ["one"])
    with pytest.raises(ConfigError) as caught:
        Mixture(sets, max_epochs_per_dataset={"one": 0})
    assert (caught.value.key, caught.value.got) == ("data.max_epochs_per_dataset.one", 0)
    with pytest.raises(ConfigError) as caught:
        Mixture({**sets, "pairs": PreferenceData("c.jsonl")})
    assert (caught.value.key, caught.value.got) == ("data.datasets", [("pairs", True), ("samples", True)])


def test_packing_of_pairs_keeps_them_whole() -> None:
    from xft.data import EpochBatchSampler

    generator = np.random.default_rng(0)
    pairs = generator.integers(10, 200, (100, 2))
    plan = EpochBatchSampler(tuple(pairs.sum(axis=1).tolist()), pack_length=512)
    rows = plan.epoch_rows(0)
    assert sorted(each for row in rows for each in row) == list(range(100))
    assert all(pairs[row].sum() <= 512 for row in rows)


def test_conversation_of_ten_thousand_turns_is_taken_or_cut(tmp_path: Path, chatml: BoundTemplate) -> None:
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


def test_line_of_fifty_megabytes_is_a_row_like_any_other(tmp_path: Path, byte_tokenizer: Any) -> None:
    path = write(tmp_path / "rows.jsonl", [{"blob": "x" * 50_000_000, "text": "x"}, {"text": "y"}])
    prepared = TextData(path, val_split=None).prepare(byte_tokenizer, None)
    assert prepared.report.rows_train == 2


# What a hostile or careless user brings


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([Message("system", "x", True)], "the first turn"),
        ([Message("user", 5), Message("assistant", "a", True)], "expected Messages"),  # type: ignore[arg-type]
        ([Message("user", "q"), Message("assistant", None, True)], "expected Messages"),  # type: ignore[arg-type]
        (
            Conversation([Message("user", "q"), Message("assistant", "a", True)], 5),
            "expected a list of objects",
        ),  # type: ignore[arg-type]
        (7, "expected Messages"),
    ],
)
def test_whatever_a_format_gives_closes_the_books(
    tmp_path: Path, chatml: BoundTemplate, value: Any, said: str
) -> None:
    good = [Message("user", "q"), Message("assistant", "a", True)]

    def mine(row: Row) -> Any:
        return value if row["n"] == 1500 else good

    path = write(tmp_path / "rows.jsonl", [{"n": number} for number in range(3000)])
    report = (
        InstructionData(path, mine, val_split=None, on_invalid="quarantine")
        .prepare(chatml.tokenizer, chatml)
        .report
    )
    assert (report.rows_read, report.rows_train) == (3000, 2999)
    assert said in report.quarantined[0]["reason"]


def test_format_may_yield_its_messages(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> Iterator[Message]:
        yield Message("user", row["instruction"])
        yield Message("assistant", row["output"], True)

    path = write(tmp_path / "rows.jsonl", [qa(0)])
    assert len(InstructionData(path, mine, val_split=None).prepare(chatml.tokenizer, chatml).train) == 1


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(20)])

    def mine(row: Row) -> list[Message]:
        if row["instruction"] == "q10":
            write(tmp_path / "rows.jsonl", [qa(number) for number in range(30)])
        return list(formats.alpaca(row))

    with pytest.raises(DataError, match="was changed while it was read"):
        InstructionData(path, mine).prepare(chatml.tokenizer, chatml)


def test_validation_file_of_which_nothing_is_left_is_refused(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(0)])
    val = write(tmp_path / "val.jsonl", [{"x": 1}])
    with pytest.raises(DataError, match=r"val\.jsonl: no validation row is left"):
        InstructionData(path, val_split=val, on_invalid="quarantine").prepare(chatml.tokenizer, chatml)


def test_validation_file_shares_no_group_and_no_words(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path / "rows.jsonl", [{**qa(0), "author": "x"}, {**qa(1), "author": "y"}])
    val = write(tmp_path / "val.jsonl", [{**qa(2), "author": "y"}])
    with pytest.raises(DataError, match=r"val\.jsonl:1: 1 of 1 validation rows are in the training split"):
        InstructionData(path, val_split=val, group_by="author").prepare(chatml.tokenizer, chatml)


def test_fields_that_parquet_fills_in_are_no_arguments(tmp_path: Path, chatml: BoundTemplate) -> None:
    from pyarrow import Table, parquet

    from xft.data.sources import RecordReader, resolve_source

    rows = [{"calls": [{"arguments": {"city": "Oslo"}}]}, {"calls": [{"arguments": {"zone": 1}}]}]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert [row for _, row in RecordReader(resolve_source(str(tmp_path / "rows.parquet")))] == rows


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_any_seed_splits(tmp_path: Path, chatml: BoundTemplate, seed: int) -> None:
    path = write(tmp_path / "rows.jsonl", [qa(number) for number in range(9)])
    prepared = InstructionData(path, val_split=3, split_seed=seed).prepare(chatml.tokenizer, chatml)
    assert len(prepared.val) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"val_split": float("nan")},
        {"max_overlong_fraction": float("nan")},
        {"max_overlong_fraction": 1.5},
        {"path": ""},
        {"path": "#5"},
    ],
)
def test_values_without_a_meaning_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        InstructionData(**{"path": "rows.jsonl", **arguments})


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


def test_workers_leave_with_a_process_that_is_killed(tmp_path: Path, byte_tokenizer: Any) -> None:
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


def test_chat_of_many_turns_is_cut_in_few_steps(tmp_path: Path, byte_tokenizer: Any) -> None:
    """One question and 400 results of tools: there is no older exchange to take away."""
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
