"""Steps that reuse completions: their loss, and what a checkpoint must keep of them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generators import CHATML
from helpers.preferences import whole_model
from helpers.rollouts import PromptRows
from helpers.runner import FakeRunner
from helpers.strategies import FakeStrategy
from helpers.tolerances import tolerance
from torch import Tensor, nn

from xft.data import Collator, EpochBatchSampler
from xft.errors import CheckpointError
from xft.models import TextGenerator, TrainingModel
from xft.models.generation import Completion
from xft.models.scoring import target_log_probs
from xft.objectives import GRPO
from xft.rollouts import LocalEngine, RewardSet, RolloutCollector, RolloutConfig, calculator
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDeviceConfig
from xft.templates import BoundTemplate, ChatTemplate
from xft.training.rollout_loop import RolloutLoop
from xft.types import Batch, Row

EPSILON = 0.05
"""Small, so that some tokens of the second pass are clipped."""


@pytest.fixture(scope="session")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(CHATML).bind(byte_tokenizer)


class RecordingRunner(FakeRunner):
    """Keeps metrics, batches and weights after each step, and may end the loop after one."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        super().__init__(work_dir=folder)
        self.stop_after = stop_after
        self.metrics: list[dict[str, float]] = []
        self.batches: list[list[Batch]] = []
        self.models: list[nn.Module] = []
        self.states: list[Any] = []

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Keep what a step did."""
        if fn_name != "after_train_iter":
            return
        loop: Any = self.train_loop
        self.metrics.append(dict(kwargs["outputs"]))
        self.batches.append(list(kwargs["data_batch"]))
        self.models.append(deepcopy(loop.strategy.model.model))
        self.states.append(deepcopy(loop.local_state()))
        if loop.step == self.stop_after:
            loop.stop_reason = "the test ends here"


def reward_text(completion: Completion, row: Row) -> float:
    """Return a number that differs for nearly all texts."""
    return float(sum(map(ord, completion.text)) % 11)


def make_loop(
    chatml: BoundTemplate,
    runner: FakeRunner,
    model: nn.Module,
    folder: Path,
    num_iterations: int,
    **options: Any,
) -> RolloutLoop:
    strategy = SingleDeviceConfig(device="cpu").build(str(folder), 0)
    objective = GRPO(epsilon=EPSILON)
    training = TrainingModel(model, objective)
    optimizer = torch.optim.SGD(training.parameters(), lr=0.3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(training, optimizer=optimizer, lr_scheduler=scheduler)
    samples: Any = PromptRows(chatml)
    sampler = EpochBatchSampler((20, 30), micro_batch_size=2, num_iterations=num_iterations)
    plan = TrainingPlan(sampler, 2 * num_iterations, (), "")
    loop = RolloutLoop(runner, strategy, samples, plan, None, Collator())
    generator = TextGenerator(model, chatml.tokenizer, chatml)
    config = RolloutConfig(num_generations=4, max_new_tokens=8, num_iterations=num_iterations, **options)
    loop.attach(RolloutCollector(config, RewardSet({"a": reward_text}, {}), objective, generator, 0))
    runner._train_loop = loop
    return loop


def clipped_loss(model: nn.Module, old_model: nn.Module, batch: Batch) -> tuple[float, Tensor]:
    """Compute the DAPO loss of a batch by its formula in fp64. Returns it, and the ratio of each token."""
    with torch.no_grad():
        current, old = (
            target_log_probs(each.double(), batch) for each in (deepcopy(model), deepcopy(old_model))
        )
    assert batch.policy is not None
    counts = torch.tensor(batch.targets_per_sample)
    advantages = batch.policy.advantages.double().repeat_interleave(counts)
    ratio = (current - old).exp()
    terms = torch.minimum(ratio * advantages, ratio.clamp(1 - EPSILON, 1 + EPSILON) * advantages)
    weights = (old - batch.policy.sampling_log_probs.double()).exp().clamp(max=3.0)
    return float(-(terms * weights).sum() / len(current)), ratio


def test_further_steps_have_the_clipped_ratio_to_the_policy_that_sampled(
    chatml: BoundTemplate, tmp_path: Path
) -> None:
    model, runner = whole_model(), RecordingRunner(tmp_path)
    before = deepcopy(model)
    make_loop(chatml, runner, model, tmp_path, num_iterations=3).run()
    assert len(runner.metrics) == 6
    weights = [before, *runner.models]
    for step, (metrics, (batch,)) in enumerate(zip(runner.metrics, runner.batches, strict=True)):
        sampled_at = step // 3 * 3
        assert torch.equal(batch.input_ids, runner.batches[sampled_at][0].input_ids)
        expected, ratio = clipped_loss(weights[step], weights[sampled_at], batch)
        assert metrics["loss"] == pytest.approx(expected, abs=tolerance(torch.float32, 64, scale=20))
        assert ("rollout_seconds" in metrics) == (step == sampled_at)
        if step == sampled_at:
            torch.testing.assert_close(ratio, torch.ones_like(ratio))
        else:
            assert (ratio - 1).abs().max() > EPSILON
            assert metrics["clip_ratio"] > 0
            assert metrics["reward"] == runner.metrics[sampled_at]["reward"]
        # The sampler is compared with the policy that it had, not with the updated one.
        assert metrics["sampling_gap"] < 1e-4
    assert not torch.equal(runner.batches[0][0].input_ids, runner.batches[3][0].input_ids)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_loop_resumes_in_the_middle_of_its_iterations_bit_equal(
    chatml: BoundTemplate, tmp_path: Path, stop_after: int
) -> None:
    model, whole = whole_model(), RecordingRunner(tmp_path)
    make_loop(chatml, whole, model, tmp_path, num_iterations=3).run()
    half = RecordingRunner(tmp_path, stop_after)
    make_loop(chatml, half, whole_model(), tmp_path, num_iterations=3).run()
    rest = RecordingRunner(tmp_path)
    loop = make_loop(chatml, rest, half.models[-1], tmp_path, num_iterations=3)
    loop.step = stop_after
    loop.load_local_states([] if half.states[-1] is None else [half.states[-1]])
    assert (half.states[-1] is None) == (stop_after == 3)
    loop.run()
    timed = ("seconds", "rollout_seconds", "train_seconds", "tokens_per_second", "target_tokens_per_second")
    for resumed, expected in zip(rest.metrics, whole.metrics[stop_after:], strict=True):
        assert {name: value for name, value in resumed.items() if name not in timed} == {
            name: value for name, value in expected.items() if name not in timed
        }
    for name, value in whole.models[-1].state_dict().items():
        assert torch.equal(rest.models[-1].state_dict()[name], value)


def test_another_number_of_ranks_divides_the_completions(chatml: BoundTemplate, tmp_path: Path) -> None:
    runner = RecordingRunner(tmp_path, stop_after=1)
    loop = make_loop(chatml, runner, whole_model(), tmp_path, num_iterations=3)
    loop.run()
    parts = []
    for rank in range(2):
        loop.strategy = FakeStrategy(data_rank=rank, data_world_size=2)
        loop.load_local_states(runner.states)
        parts.append(loop._policy_samples)
    assert [len(part) for part in parts] == [4, 4]
    ids = [sample.sample.input_ids.tolist() for pair in zip(*parts, strict=True) for sample in pair]
    (batch,) = runner.batches[0]
    assert [token for row in ids for token in row] == batch.input_ids[0].tolist()


def test_a_checkpoint_without_the_completions_that_the_next_step_reuses_is_refused(
    chatml: BoundTemplate, tmp_path: Path
) -> None:
    loop = make_loop(chatml, RecordingRunner(tmp_path), whole_model(), tmp_path, num_iterations=3)
    loop.step = 2
    with pytest.raises(CheckpointError) as caught:
        loop.load_local_states([])
    assert caught.value.key == "rollout.num_iterations"


@pytest.mark.parametrize("environment", [None, calculator])
def test_the_largest_batches_have_the_largest_completions_of_all_turns(
    chatml: BoundTemplate, tmp_path: Path, environment: Any
) -> None:
    options = {"environment": environment, "max_turns": 3, "pack_length": 250}
    loop = make_loop(chatml, RecordingRunner(tmp_path), whole_model(), tmp_path, 1, **options)
    longest = max(range(2), key=lambda index: len(loop.samples[index]))
    batches, (full,) = loop.largest_batches([longest, 1 - longest])
    targets = 8 * (1 if environment is None else 3)
    lengths = [length for batch in batches for length in batch.seq_lens]
    assert lengths == [
        len(loop.samples[index]) + targets for index in (longest, 1 - longest) for _ in range(4)
    ]
    assert full.num_tokens == loop.collector.config.largest_batch(2, len(loop.samples[longest])) == 250
    assert max(batch.num_tokens for batch in batches) < 250


def test_close_closes_the_engine(chatml: BoundTemplate, tmp_path: Path) -> None:
    closed: list[bool] = []

    class Recording(LocalEngine):
        def close(self) -> None:
            """Record the call."""
            closed.append(True)

    loop = make_loop(chatml, RecordingRunner(tmp_path), whole_model(), tmp_path, 1, engine=Recording())
    loop.close()
    assert closed == [True]
