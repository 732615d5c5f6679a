import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generators import CHATML
from helpers.plans import plan_of
from helpers.runner import FakeLoop, RecordingLogger
from helpers.tiny import tiny_config
from transformers import AutoModelForCausalLM

from xft.checkpoint.resume_state import ResumeState
from xft.errors import CheckpointError
from xft.models import ModelMetadata, TrainingModel
from xft.objectives import next_token
from xft.strategies import SingleDeviceConfig
from xft.templates import BoundTemplate
from xft.training.hooks import Hook
from xft.training.runner import Runner

CONFIG = {"model": {"path": "x"}, "data": {"path": "rows.jsonl"}, "optimizer": {"lr": 0.1}, "seed": 1}


class Order(Hook):
    """Keep the order in which moments are called."""

    calls: list[str]

    def __init__(self, name: str, priority: str, calls: list[str]) -> None:
        self.name, self.priority, self.calls = name, priority, calls

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        self.calls.append(f"{self.name}.after_train_iter")

    def after_step(self, runner: Runner) -> None:
        self.calls.append(f"{self.name}.after_step")


class PositionLogger(RecordingLogger):
    """Keep the position to which a resumed run rewinds it."""

    rewound: Any = None

    def checkpoint_position(self) -> int:
        return len(self.records)

    def truncate_to_step(self, position: Any) -> None:
        self.rewound = position


@pytest.fixture
def make_runner(tmp_path: Path, make_byte_tokenizer: Any) -> Iterator[Any]:
    def make(hooks: dict[str, Hook] | None = None, config: Any = None) -> Runner:
        tokenizer = make_byte_tokenizer(CHATML)
        torch.manual_seed(0)
        language_model = AutoModelForCausalLM.from_config(tiny_config("llama", len(tokenizer)))
        model = TrainingModel(language_model, next_token)
        strategy = SingleDeviceConfig(device="cpu").build(str(tmp_path), 0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
        strategy.prepare(model, optimizer=optimizer, lr_scheduler=lr_scheduler)
        runner = Runner(
            strategy=strategy,
            config=config or CONFIG,
            hooks=hooks or {},
            tokenizer=tokenizer,
            template=BoundTemplate(tokenizer, CHATML),
            eval_prompts=[],
            val_samples=[],
            model_metadata=ModelMetadata("x", "float32"),
            model=model,
        )
        loop = FakeLoop(strategy, 10)
        loop.plan = plan_of([5] * 10, 10)
        runner.attach_loop(loop)
        return runner

    handlers = logging.getLogger().handlers[:]
    yield make
    logging.getLogger().handlers[:] = handlers


def _state(runner: Runner, **changes: Any) -> ResumeState:
    position = vars(runner.run_state()) | {"step": 4, "tokens_seen": 40}
    return ResumeState(**position | changes, folder=Path("step_4"), training={}, shards=[])


def test_after_step_follows_all_hooks_of_a_step_whatever_their_priority(make_runner: Any) -> None:
    calls: list[str] = []
    hooks = {name: Order(name, priority, calls) for name, priority in (("low", "LOW"), ("high", "HIGH"))}
    make_runner(hooks).call_hook("after_train_iter", batch_idx=0, data_batch=[], outputs={})
    assert calls == ["high.after_train_iter", "low.after_train_iter", "high.after_step", "low.after_step"]


def test_record_sends_step_split_and_metrics_to_every_logger(make_runner: Any) -> None:
    runner = make_runner()
    runner.loggers = [RecordingLogger(), RecordingLogger()]
    runner.train_loop.step = 3
    runner.record("val", loss=1.5)
    for logger in runner.loggers:
        assert logger.records == [{"step": 3, "split": "val", "loss": 1.5}]


def test_run_state_copies_hook_states_and_logger_positions(make_runner: Any) -> None:
    runner = make_runner()
    runner.loggers = [PositionLogger()]
    runner.record("train", loss=1.0)
    runner.state = {"hook": {"best": 2.0}}
    state = runner.run_state()
    runner.state["hook"]["best"] = 1.0
    assert state.hooks["hook"] == {"best": 2.0}
    assert state.loggers == {"PositionLogger": 1}


def test_run_state_with_a_value_that_json_cannot_hold_raises_checkpoint_error(make_runner: Any) -> None:
    runner = make_runner()
    runner.state = {"hook": {1, 2}}
    with pytest.raises(CheckpointError) as error:
        runner.run_state()
    assert (error.value.key, error.value.got) == ("runner.state", {"hook": {1, 2}})


def test_resume_from_another_config_or_data_raises_checkpoint_error(make_runner: Any) -> None:
    runner = make_runner()
    loop = runner.train_loop
    other_rate = make_runner(config=CONFIG | {"optimizer": {"lr": 0.2}})
    with pytest.raises(CheckpointError) as error:
        runner.resume_from(_state(other_rate), loop)
    assert error.value.key == "--resume"
    assert [change.partition(" ")[0] for change in error.value.got] == ["optimizer.lr"]
    with pytest.raises(CheckpointError) as error:
        runner.resume_from(_state(runner, data_fingerprint="other"), loop)
    assert (error.value.got, error.value.expected) == (loop.plan.fingerprint(), "other")
    assert loop.step == 0


def test_resume_from_restores_position_and_hook_states(
    make_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner()
    runner.loggers = [PositionLogger()]
    monkeypatch.setattr(runner.checkpointer, "load", lambda state: None)
    state = _state(runner, hooks={"hook": {"best": 2.0}}, loggers={"PositionLogger": 7, "Removed": 1})
    runner.resume_from(state, runner.train_loop)
    runner.rewind_loggers()
    assert (runner.train_loop.step, runner.train_loop.tokens_seen) == (4, 40)
    assert runner.loggers[0].rewound == 7
    runner.state["hook"]["best"] = 1.0
    assert state.hooks == {"hook": {"best": 2.0}}


def test_a_resumed_run_continues_the_clock_of_its_checkpoint(
    make_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner()
    clock = {"started_at": "2026-01-02T03:04:05+00:00", "past_seconds": 75.0}
    monkeypatch.setattr(runner.checkpointer, "load", lambda state: [])
    runner.resume_from(_state(runner, hooks={"clock": clock}), runner.train_loop)
    saved = runner.run_state().hooks["clock"]
    assert saved["started_at"] == clock["started_at"]
    assert 75 <= saved["past_seconds"] < 600


def test_static_files_are_those_of_the_saved_model_without_its_weights(
    make_runner: Any, tmp_path: Path
) -> None:
    runner = make_runner()
    folder, _ = runner.write_final(lambda written: None)
    saved = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".safetensors"}
    del saved["README.md"]  # the card of the final model
    assert runner._static_files() == saved
    assert json.loads(saved["config.json"])["model_type"] == "llama"


def test_write_final_that_fails_verification_keeps_the_previous_model(make_runner: Any) -> None:
    runner = make_runner()
    folder, result = runner.write_final(lambda written: written.is_dir())
    assert result is True
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        next(runner.unwrapped_model.parameters()).add_(1.0)

    def refuse(written: Path) -> None:
        assert (written / "model.safetensors").read_bytes() != before
        raise CheckpointError(key="final", got="other logits")

    with pytest.raises(CheckpointError):
        runner.write_final(refuse)
    assert (folder / "model.safetensors").read_bytes() == before
    assert not list(runner.run_dir.glob(".final-*"))
