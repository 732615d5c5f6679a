"""The verification subprocess: its environment, and the meaning of its exit code."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from xft.errors import CheckpointError
from xft.export.verify import launcher
from xft.export.verify.launcher import VerificationSkipped, VerifySubprocess
from xft.export.verify.worker import EXIT_OUT_OF_MEMORY, VerifyRequest

REQUEST = VerifyRequest("somewhere/final", [[1, 2, 3]], None)


@pytest.fixture(autouse=True)
def new_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """End-to-end tests of the same session verify in forks."""
    monkeypatch.setattr(launcher, "subprocess", subprocess)


def _start(monkeypatch: pytest.MonkeyPatch, code: str) -> VerifySubprocess:
    monkeypatch.setattr(launcher, "BOOTSTRAP", code)
    return VerifySubprocess(REQUEST)


@pytest.mark.parametrize(
    ("code", "status"),
    [("import os; os.kill(os.getpid(), 9)", -9), (f"import sys; sys.exit({EXIT_OUT_OF_MEMORY})", 75)],
)
def test_result_is_skipped_if_killed_or_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    process = _start(monkeypatch, code)
    with pytest.raises(VerificationSkipped) as error:
        process.result(60)
    assert (error.value.key, error.value.got) == ("somewhere/final", status)


def test_result_of_unloadable_model_is_an_error_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    process = _start(monkeypatch, "import sys; print('noise'); sys.exit('the adapter is broken')")
    with pytest.raises(CheckpointError, match=r"\(the adapter is broken\)") as error:
        process.result(60)
    assert not isinstance(error.value, VerificationSkipped)
    assert error.value.key == "somewhere/final"


def test_result_after_timeout_kills_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    process = _start(monkeypatch, "import time; time.sleep(600)")
    assert not process.is_done()
    with pytest.raises(VerificationSkipped) as error:
        process.result(0.1)
    assert error.value.key == "hooks.verify.timeout_minutes"
    assert process.is_done()
    assert not process._folder.exists()


def test_environment_has_xft_and_no_launcher_variables(
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
    assert Path(origin).samefile(Path(launcher.xft.__file__))
    assert own_session


def test_result_of_broken_folder_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"cannot be loaded in a new process \(model: cannot load"):
        VerifySubprocess(VerifyRequest(str(tmp_path), [[1, 2]], None)).result(120)
