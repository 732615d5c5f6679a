"""``xft train``."""

import pytest

from xft import cli
from xft.distributed import launch
from xft.training import train as training


def test_train_passes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[training.TrainOptions] = []
    monkeypatch.setattr(training, "train", calls.append)
    assert cli.main(["train", "c.py"]) == 0
    argv = ["train", "c.py", "--work-dir", "w", "--resume", "--seed", "3", "--launcher", "pytorch"]
    assert cli.main([*argv, "--cfg-options", "a=1"]) == 0
    assert calls[0] == training.TrainOptions(config="c.py")
    assert calls[1] == training.TrainOptions(
        config="c.py", work_dir="w", overrides=["a=1"], resume="", seed=3, launcher="pytorch"
    )


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """The calls that would start processes."""
    calls: list[tuple[int, list[str]]] = []

    def spawn(count: int, arguments: list[str]) -> int:
        calls.append((count, arguments))
        return 7

    monkeypatch.setattr(launch, "spawn_local_ranks", spawn)
    return calls


@pytest.mark.parametrize("count", [1, 4])
def test_train_nproc_per_node_starts_processes_and_returns_their_exit_code(
    spawned: list[tuple[int, list[str]]], count: int
) -> None:
    argv = ["train", "c.py", "--nproc-per-node", str(count)]
    assert cli.main(argv) == 7
    assert spawned == [(count, argv)]


def test_train_nproc_per_node_with_another_launcher_is_refused(
    spawned: list[tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "c.py", "--launcher", "slurm", "--nproc-per-node", "4"]) == 2
    assert "--nproc-per-node" in capsys.readouterr().err
    assert spawned == []
