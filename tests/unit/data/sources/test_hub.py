"""Hub data sets, with the functions of ``datasets`` replaced."""

from pathlib import Path
from typing import Any

import pytest

from xft.data.sources import DataSource, RecordReader, fingerprint, hub, resolve_source
from xft.data.sources.location import RowLocation, too_large
from xft.errors import DataError


@pytest.mark.parametrize("name", ["owner/name", "owner/name:config", "my-org/v1.0_x"])
def test_resolve_source_of_owner_and_name_is_a_hub_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_source(name) == DataSource(name, (), name, None)
    assert resolve_source(f"{name}#500") == DataSource(f"{name}#500", (), name, 500)
    assert resolve_source(name).size is None


@pytest.mark.parametrize("streaming", [True, False])
def test_read_hub_passes_name_config_split_and_streaming(
    monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    datasets = pytest.importorskip("datasets")
    calls: list[Any] = []

    def load(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        return datasets.Dataset.from_list([{"n": 1}, {"n": 2}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    records = list(RecordReader(resolve_source("owner/name:one"), "test", streaming=streaming))
    assert calls == [(("owner/name", "one"), {"split": "test", "streaming": streaming})]
    assert [(str(location), raw) for location, raw in records] == [
        ("owner/name:one, row 1", {"n": 1}),
        ("owner/name:one, row 2", {"n": 2}),
    ]


def test_read_hub_does_not_hide_a_fault_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(value: object) -> int:
        raise AttributeError("a bug")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: iter([{"n": 1}]))
    monkeypatch.setattr(hub, "num_bytes", fail)
    with pytest.raises(AttributeError):
        list(RecordReader(resolve_source("owner/name")))


def test_read_hub_errors_of_datasets_are_data_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network\nat all")

    def rows() -> Any:
        yield {"n": 1}
        raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    for action in (
        lambda: list(RecordReader(resolve_source("owner/name"))),
        lambda: fingerprint(resolve_source("owner/name"), "train"),
    ):
        with pytest.raises(DataError) as caught:
            action()
        assert str(caught.value).startswith("owner/name: ")
        assert "ConnectionError: 'no network at all'" in str(caught.value)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    with pytest.raises(DataError) as caught:
        list(RecordReader(resolve_source("owner/name"), streaming=True))
    assert str(caught.value).startswith("owner/name, row 1: ")
    assert "ConnectionError: 'gone'" in str(caught.value)


def test_fingerprint_depends_on_hash_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    class BuilderConfig:
        name = "default"

    class Builder:
        hash = "c0ffee"
        config = BuilderConfig()

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: Builder)
    source = resolve_source("owner/name")
    seen = {fingerprint(source, "train"), fingerprint(source, "test")}
    Builder.hash = "f00d"
    seen |= {fingerprint(source, "train"), fingerprint(resolve_source("owner/other"), "train")}
    assert len(seen) == 4


def test_read_hub_objects_have_no_nulls_as_in_parquet(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"a": None, "b": {"c": None, "d": 0}, "e": [{"f": None}, None, {"g": [{"h": None}]}]}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [row])
    [(_, result)] = RecordReader(resolve_source("owner/name"))
    assert result == {"a": None, "b": {"d": 0}, "e": [{}, None, {"g": [{}]}]}


def test_row_that_is_too_large_is_an_error_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(hub, "MAX_ROW_BYTES", 1000)
    turns = [{"role": "user", "content": "é" * 251, "more": None}]
    rows = [{"turns": [turns[0] | {"content": "short"}]}, {"turns": turns * 2}, {"turns": turns}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    results = [raw for _, raw in RecordReader(resolve_source("owner/name"))]
    assert [isinstance(raw, DataError) for raw in results] == [False, True, False]
    assert results[1].args == too_large(RowLocation("owner/name", 2, "row")).args
