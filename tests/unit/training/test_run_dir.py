"""The run folder: which it is, whether it is free, and its log file."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.resume_state import STATE_FILE, TENSORS_FILE
from xft.errors import CheckpointError, ConfigError
from xft.training.run_dir import add_file_handler, choose_work_dir, is_in_use, lock_run_dir

CONFIG = "configs/smollm2_lora.py"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and we are in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoints(run: Path, *steps: int) -> None:
    """A run folder with whole checkpoints of these steps."""
    for step in steps:
        folder = run / "checkpoints" / f"step_{step}"
        folder.mkdir(parents=True)
        for name in (STATE_FILE, TENSORS_FILE):
            (folder / name).write_text("{}", encoding="utf-8")
        write_manifest(folder)


def test_the_folder_is_named_after_the_config(here: Path) -> None:
    assert choose_work_dir(CONFIG, None, None) == (here / "runs" / "smollm2_lora", None)


def test_the_first_free_number_follows_where_the_name_is_taken(here: Path) -> None:
    for name in ("smollm2_lora", "smollm2_lora-2", "smollm2_lora-4"):
        with lock_run_dir(here / "runs" / name, rank=0, resumed=False):
            pass
    assert choose_work_dir(CONFIG, None, None)[0] == here / "runs" / "smollm2_lora-3"


def test_a_wish_is_taken_as_it_is(here: Path) -> None:
    assert choose_work_dir(CONFIG, "out/a", None) == (here / "out" / "a", None)
    assert choose_work_dir(CONFIG, str(here / "b"), None) == (here / "b", None)


def test_choosing_makes_nothing(here: Path) -> None:
    choose_work_dir(CONFIG, None, None)
    choose_work_dir(CONFIG, "out/a", None)
    assert list(here.iterdir()) == []


def test_a_wished_folder_that_holds_a_run_is_refused_and_says_what_to_do(here: Path) -> None:
    with lock_run_dir(here / "a", rank=0, resumed=False):
        pass
    with pytest.raises(
        ConfigError, match=r"a holds a run already; it saved no checkpoint: delete it, or choose"
    ):
        choose_work_dir(CONFIG, "a", None)
    (here / "a" / "checkpoints" / "step_3").mkdir()
    with pytest.raises(ConfigError, match=r"a holds a run already; --resume .* or choose another folder"):
        choose_work_dir(CONFIG, "a", None)


def test_a_second_run_is_kept_out_while_the_first_is_at_work(here: Path) -> None:
    with lock_run_dir(here / "a", rank=0, resumed=True):
        with pytest.raises(ConfigError, match="another run is at work"):
            with lock_run_dir(here / "a", rank=0, resumed=True):
                raise AssertionError("two runs in one folder")
    with lock_run_dir(here / "a", rank=0, resumed=True):
        assert (here / "a").is_dir()


def test_what_fails_before_the_first_checkpoint_leaves_no_folder(here: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with lock_run_dir(here / "a", rank=0, resumed=False):
            raise ZeroDivisionError
    assert not (here / "a").exists()
    (here / "b").mkdir()
    (here / "b" / "mine.txt").write_text("mine")
    with pytest.raises(ZeroDivisionError):
        with lock_run_dir(here / "b", rank=0, resumed=False):
            raise ZeroDivisionError
    assert (here / "b" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("mark", ["config.py", "metrics.jsonl", "checkpoints", "final"])
def test_a_folder_with_any_trace_of_a_run_is_taken(tmp_path: Path, mark: str) -> None:
    assert not is_in_use(tmp_path)
    (tmp_path / mark).touch()
    assert is_in_use(tmp_path)


def test_a_folder_with_other_files_or_none_is_free(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert not is_in_use(tmp_path)
    assert not is_in_use(tmp_path / "not_there")
    assert choose_work_dir(CONFIG, str(tmp_path), None) == (tmp_path, None)


def test_a_folder_that_cannot_hold_a_run_is_refused_before_anything_slow(here: Path) -> None:
    (here / "file").touch()
    for folder in ("file/run", "file", os.fsdecode(b"caf\xe9/run")):
        with pytest.raises(ConfigError) as error:
            choose_work_dir(CONFIG, folder, None)
        assert (error.value.key, error.value.got) == ("--work-dir", str(here / folder))


def test_a_folder_that_may_not_be_written_to_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the system's answer is given by hand.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != here)
    with pytest.raises(ConfigError) as error:
        choose_work_dir(CONFIG, "a/b", None)
    assert (error.value.key, error.value.got) == ("--work-dir", str(here / "a" / "b"))


def test_resuming_goes_on_from_the_newest_checkpoint_by_number(here: Path) -> None:
    checkpoints(here / "a", 9, 10, 2)
    folder, checkpoint = choose_work_dir(CONFIG, "a", "")
    assert folder == here / "a"
    assert checkpoint is not None
    assert checkpoint.absolute() == here / "a" / "checkpoints" / "step_10"


def test_resuming_without_a_wish_takes_the_folder_of_the_config(here: Path) -> None:
    checkpoints(here / "runs" / "smollm2_lora", 3)
    folder, checkpoint = choose_work_dir(CONFIG, None, "")
    assert folder == here / "runs" / "smollm2_lora"
    assert checkpoint is not None
    assert checkpoint.name == "step_3"


@pytest.mark.parametrize("path", ["a", "a/checkpoints/step_5"])
def test_resuming_from_a_path_stays_in_its_run_folder(here: Path, path: str) -> None:
    checkpoints(here / "a", 5)
    folder, checkpoint = choose_work_dir(CONFIG, None, path)
    assert folder == here / "a"
    assert checkpoint is not None
    assert checkpoint.absolute() == here / "a" / "checkpoints" / "step_5"


def test_resuming_from_an_older_checkpoint_takes_that_one(here: Path) -> None:
    checkpoints(here / "a", 5, 10)
    _, checkpoint = choose_work_dir(CONFIG, None, "a/checkpoints/step_5")
    assert checkpoint is not None
    assert checkpoint.name == "step_5"


def test_resuming_from_a_link_takes_what_it_points_at(here: Path) -> None:
    checkpoints(here / "a", 5, 10)
    (here / "a" / "checkpoints" / "best").symlink_to("step_5")
    folder, checkpoint = choose_work_dir(CONFIG, None, "a/checkpoints/best")
    assert folder == here / "a"
    assert checkpoint is not None
    assert checkpoint.name == "step_5"


def test_resuming_into_another_folder_is_possible(here: Path) -> None:
    checkpoints(here / "a", 5)
    folder, checkpoint = choose_work_dir(CONFIG, "b", "a")
    assert folder == here / "b"
    assert checkpoint is not None
    assert checkpoint.parent.parent.name == "a"


@pytest.mark.parametrize(
    "unfinished", [None, "checkpoints", "checkpoints/.step_3.tmp", "checkpoints/step_x"]
)
def test_resuming_from_nothing_is_refused(here: Path, unfinished: str | None) -> None:
    if unfinished is not None:
        (here / "a" / unfinished).mkdir(parents=True)
    with pytest.raises(CheckpointError, match="a has no checkpoint"):
        choose_work_dir(CONFIG, "a", "")


def test_claiming_makes_the_folder_and_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with lock_run_dir(folder, rank=0, resumed=False):
        pass
    assert (folder / "checkpoints").is_dir()
    assert is_in_use(folder)


def test_a_folder_that_was_taken_meanwhile_is_not_shared(tmp_path: Path) -> None:
    with lock_run_dir(tmp_path / "a", rank=0, resumed=False):
        pass
    with pytest.raises(ConfigError, match="taken by another run meanwhile"):
        with lock_run_dir(tmp_path / "a", rank=0, resumed=False):
            pass


def test_a_resumed_run_takes_its_folder_again(tmp_path: Path) -> None:
    with lock_run_dir(tmp_path / "a", rank=0, resumed=False):
        pass
    (tmp_path / "a" / "config.py").write_text("seed = 0\n", encoding="utf-8")
    with lock_run_dir(tmp_path / "a", rank=0, resumed=True):
        pass
    assert (tmp_path / "a" / "config.py").read_text(encoding="utf-8") == "seed = 0\n"


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make"):
        with lock_run_dir(tmp_path / "file" / "a", rank=0, resumed=False):
            pass


@pytest.fixture
def _loggers_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("xft", "xft.runner")]
    for each in loggers:
        monkeypatch.setattr(each, "handlers", [])
        monkeypatch.setattr(each, "level", each.level)
        monkeypatch.setattr(each, "propagate", False)
    yield
    for each in loggers:
        for handler in each.handlers:
            handler.close()


@pytest.mark.usefixtures("_loggers_left_as_they_were")
def test_lines_are_kept_in_the_log_of_the_run(tmp_path: Path) -> None:
    add_file_handler(tmp_path)
    logging.getLogger("xft").info("für alle")
    logging.getLogger("xft.runner").warning("of mmengine")
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["für alle", "of mmengine"]


@pytest.mark.usefixtures("_loggers_left_as_they_were")
def test_the_next_run_of_a_process_writes_to_its_own_log_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        add_file_handler(tmp_path / name)
        logging.getLogger("xft").info(f"line of {name}")
    assert (tmp_path / "one" / "train.log").read_text(encoding="utf-8").count("line of") == 1
    assert "line of two" in (tmp_path / "two" / "train.log").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_loggers_left_as_they_were")
def test_a_resumed_run_appends_to_its_log(tmp_path: Path) -> None:
    for text in ("first", "second"):
        add_file_handler(tmp_path)
        logging.getLogger("xft").info(text)
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["first", "second"]


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize(
    "name",
    [".lock", "train.log", "data_report.json", "metrics.new", "checkpoints/step_2", "tensorboard/events"],
)
def test_a_link_in_a_run_folder_is_refused_and_its_target_is_kept(
    tmp_path: Path, name: str, resumed: bool
) -> None:
    """The folder of a stranger may have links to anything; also broken ones, which would be created."""
    target, run = tmp_path / "mine.txt", tmp_path / "run"
    target.write_text("kept")
    (run / name).parent.mkdir(parents=True)
    for aim in (target, tmp_path / "absent"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(aim)
        with pytest.raises(ConfigError) as error, lock_run_dir(run, rank=0, resumed=resumed):
            pass
        assert error.value.key == str(run / name)
    assert target.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "run"]


def test_a_pipe_in_a_run_folder_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ConfigError) as error, lock_run_dir(tmp_path, rank=0, resumed=True):
        pass
    assert error.value.got == "a pipe or a device"


def test_links_of_the_run_itself_and_of_libraries_are_accepted(tmp_path: Path) -> None:
    checkpoints(tmp_path, 2)
    (tmp_path / "checkpoints" / "last").symlink_to("step_2")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "latest-run").symlink_to("run-1")
    with lock_run_dir(tmp_path, rank=0, resumed=True):
        pass


@pytest.mark.parametrize("name", [".last.tmp", ".best.tmp"])
def test_link_left_by_a_run_that_was_killed_while_saving_is_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).symlink_to("step_12")
    with lock_run_dir(tmp_path, 0, True, None):
        pass


def test_the_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "train.log").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(ConfigError) as error:
        add_file_handler(tmp_path)
    assert error.value.key == str(tmp_path / "train.log")
