"""The process that looks at a saved model: how it ends, and what is made of that."""

import json
import os
from pathlib import Path

import pytest
import torch

from xft.errors import CheckpointError
from xft.export import verify_subprocess
from xft.export.verify_subprocess import FreshProcess, NotLookedAt
from xft.export.verify_worker import NO_MEMORY, Found, Wanted, read_found, write_found

WANTED = Wanted("somewhere/final", [1, 2, 3], None)


def _start(monkeypatch: pytest.MonkeyPatch, code: str) -> FreshProcess:
    monkeypatch.setattr(verify_subprocess, "START", code)
    return FreshProcess(WANTED)


def test_what_is_found_comes_back_as_it_was(tmp_path: Path) -> None:
    found = Found("text", [1, 2], [3], {"up": 0.125}, True, torch.randn(1, 2, 5))
    write_found(found, tmp_path)
    again = read_found(tmp_path)
    assert torch.equal(again.logits, found.logits)
    assert {**vars(again), "logits": None} == {**vars(found), "logits": None}


def test_a_killed_process_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(NotLookedAt, match=r"somewhere/final: .* was killed by signal 9"):
        started.result(60)


def test_too_little_memory_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(monkeypatch, f"import sys; sys.exit({NO_MEMORY})")
    with pytest.raises(NotLookedAt, match="ran out of memory; it needs room for a second model"):
        started.result(60)


def test_a_model_that_cannot_be_opened_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(monkeypatch, "import sys; print('noise'); sys.exit('the adapter is broken')")
    with pytest.raises(CheckpointError, match=r"fresh process \(the adapter is broken\)") as error:
        started.result(60)
    assert not isinstance(error.value, NotLookedAt)


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(monkeypatch, "import time; time.sleep(600)")
    assert not started.is_done()
    with pytest.raises(NotLookedAt, match=r"hooks\.verify\.timeout_minutes"):
        started.result(0.1)
    assert started.is_done()
    assert not started._folder.exists()


def test_it_stands_alone_and_has_this_package_in_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    seen = tmp_path / "seen.json"
    code = (
        "import json, os, sys, importlib.util as u; "
        f"json.dump([dict(os.environ), u.find_spec('xft').origin, os.getsid(0) == os.getpid()], open({str(seen)!r}, 'w')); "
        "sys.exit('enough')"
    )
    with pytest.raises(CheckpointError, match="enough"):
        _start(monkeypatch, code).result(60)
    environment, origin, own_session = json.loads(seen.read_text())
    assert not {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & set(environment)
    assert str(tmp_path) in environment["PYTHONPATH"].split(os.pathsep)
    assert Path(origin).samefile(Path(verify_subprocess.xft.__file__))
    assert own_session


def test_a_broken_folder_ends_the_real_one_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"cannot be opened in a fresh process \(model: cannot load"):
        FreshProcess(Wanted(str(tmp_path), [1, 2], None)).result(120)
