"""training_state.json is typed, and a file of another format is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from xft.checkpoint.resume_state import STATE_FILE, read_resume_state
from xft.errors import CheckpointError

CONTENT: dict[str, Any] = {
    "step": 3,
    "tokens_seen": 40,
    "stop_reason": None,
    "data_fingerprint": "abc",
    "batching": {"world_size": 1},
    "config": {"seed": 1},
    "hooks": {"checkpoint": {"best_step": 2}},
    "loggers": {},
    "training": {"items": []},
    "shards": [],
}


def test_read_resume_state_has_the_content_and_the_folder(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text(json.dumps({**CONTENT, "further": 1}))
    state = read_resume_state(tmp_path)
    assert {name: getattr(state, name) for name in CONTENT} == CONTENT
    assert (state.folder, state.best_step) == (tmp_path, 2)


@pytest.mark.parametrize("hooks", [{}, {"checkpoint": {}}, {"checkpoint": {"best_step": None}}])
def test_best_step_without_validation_is_none(tmp_path: Path, hooks: dict[str, Any]) -> None:
    (tmp_path / STATE_FILE).write_text(json.dumps({**CONTENT, "hooks": hooks}))
    assert read_resume_state(tmp_path).best_step is None


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x80"])
def test_read_resume_state_no_object_raises(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_resume_state(tmp_path)
    assert error.value.key == str(tmp_path / STATE_FILE)


def test_read_resume_state_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        read_resume_state(tmp_path)
    assert error.value.key == str(tmp_path / STATE_FILE)


def test_read_resume_state_of_another_format_raises_with_its_keys(tmp_path: Path) -> None:
    renamed = {"batching": "portions", "shards": "shares", "data_fingerprint": "data"}
    other = {renamed.get(key, key): value for key, value in CONTENT.items()}
    (tmp_path / STATE_FILE).write_text(json.dumps(other))
    with pytest.raises(CheckpointError) as error:
        read_resume_state(tmp_path)
    assert error.value.got == sorted(other)
