"""``xft train``."""

import pytest

from xft import cli
from xft.commands import precheck, train
from xft.distributed import launch
from xft.training import train as training

pytestmark = pytest.mark.usefixtures("empty_config")


def test_train_passes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[training.TrainOptions] = []
    monkeypatch.setattr(training, "train", calls.append)
    monkeypatch.setattr(train, "_precheck", lambda arguments: None)
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
    monkeypatch.setattr(train, "_precheck", lambda arguments: None)
    return calls


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What is done: ``check`` with the strategy of the config, ``start`` and ``train``."""
    done: list[tuple[str, object]] = []
    monkeypatch.setattr(
        precheck, "precheck", lambda config, where: done.append(("check", config.get("strategy")))
    )
    monkeypatch.setattr(launch, "spawn_local_ranks", lambda *arguments: done.append(("start", None)))
    monkeypatch.setattr(training, "train", lambda options: done.append(("train", None)))
    return done


@pytest.mark.parametrize(
    ("words", "rank", "expected"),
    [
        ("", "0", ["check", "train"]),
        ("--nproc-per-node 2", "0", ["check", "start"]),
        ("--nproc-per-node 1 --launcher pytorch", "0", ["train"]),
        ("--nproc-per-node 1 --launcher pytorch", "1", ["train"]),
        ("--launcher pytorch", "0", ["check", "train"]),
        ("--launcher pytorch", "1", ["train"]),
        ("--launcher slurm", "1", ["train"]),
    ],
)
def test_a_config_is_checked_once(
    checked: list[tuple[str, object]],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    rank: str,
    expected: list[str],
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("SLURM_PROCID", rank)
    assert cli.main(["train", "smollm2_lora", *words.split()]) == 0
    assert [name for name, _ in checked] == expected


@pytest.mark.parametrize(
    ("words", "strategy"),
    [
        (
            ["--fsdp", "strategy.sequence_parallel_size=2", "strategy.cpu_offload=True"],
            {"type": "fsdp2", "sequence_parallel_size": 2, "cpu_offload": True},
        ),
        (
            ["--deepspeed", "zero2", "strategy.zero_stage=3"],
            {"type": "deepspeed", "zero_stage": 3},
        ),
        (["--nproc-per-node", "2", "strategy.timeout_minutes=9"], {"type": "ddp", "timeout_minutes": 9}),
    ],
)
def test_the_strategy_of_the_command_line_is_checked(
    checked: list[tuple[str, object]], words: list[str], strategy: dict[str, object]
) -> None:
    assert cli.main(["train", "smollm2_lora", *words]) == 0
    assert checked[0] == ("check", strategy)


def test_a_process_of_torchrun_without_a_launcher_is_refused(
    checked: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert cli.main(["train", "smollm2_lora"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--launcher pytorch" in line
    assert "--nproc-per-node 4" in line
    assert checked == []
    assert cli.main(["train", "smollm2_lora", "--nproc-per-node", "4"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.main(["train", "smollm2_lora"]) == 0


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
