"""Episodes of several turns with a tiny model: only the tokens of the model are trained, as they were sampled."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bad_rewards import hanging_step
from helpers.generators import CHATML
from helpers.preferences import whole_model
from helpers.rollouts import PromptRows

from xft.data import Collator
from xft.errors import TrainingError
from xft.models import TextGenerator
from xft.models.scoring import target_log_probs
from xft.objectives import GRPO
from xft.rollouts import (
    PolicyBatcher,
    PolicyModel,
    RewardSet,
    Rollout,
    RolloutCollector,
    RolloutConfig,
    to_policy_samples,
)
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import Message, Row

REPLY = "<|im_start|>tool\nok 1<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="session")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(CHATML).bind(byte_tokenizer)


def collect(chatml: BoundTemplate, environment: Any, timeout: float = 60.0) -> list[Rollout]:
    model = whole_model()
    generator = TextGenerator(model, chatml.tokenizer, chatml)
    generator.stop_ids = list(range(0, 300, 4))  # A model with random weights does not end its turns.
    config = RolloutConfig(
        num_generations=3,
        max_new_tokens=8,
        environment=environment,
        max_turns=3,
        environment_timeout=timeout,
    )
    collector = RolloutCollector(config, RewardSet({}, {}), GRPO(), generator, 0)
    prompts: Any = PromptRows(chatml)
    policy = PolicyModel(model, bool, 0, Path(), lambda folder: None, lambda function: function())
    rollouts = collector.generate(policy, prompts, [0, 1], 0, 3)
    samples = to_policy_samples([replace(rollout, advantages=(1.0,) * 3) for rollout in rollouts])
    (batch,) = PolicyBatcher(Collator(), config).batches(samples)
    assert batch.policy is not None
    # The log-probabilities of the sampler are those of exactly these tokens in exactly this context.
    log_probs = target_log_probs(model, batch).detach()
    torch.testing.assert_close(log_probs, batch.policy.sampling_log_probs, rtol=1e-4, atol=1e-4)
    return rollouts


def twice(messages: Sequence[Message], row: Row) -> list[Message] | None:
    """Answer the first turn of the model."""
    assert row["number"] in (0, 1)
    return [Message("tool", "ok 1")] if len(messages) < 3 else None


def test_tokens_of_the_environment_are_context_and_no_targets(chatml: BoundTemplate) -> None:
    rollouts = collect(chatml, twice)
    tokens = [item for rollout in rollouts for item in rollout.tokens]
    several = [item for item in tokens if item.sampled]
    assert 0 < len(several) <= len(tokens)
    for item in several:
        assert len(item.ids) == len(item.sampled)
        assert sum(item.sampled) == len(item.log_probs) == len(item.entropies)
        given = [token for token, sampled in zip(item.ids, item.sampled, strict=True) if not sampled]
        assert chatml.tokenizer.decode(given) == "\n" + REPLY
    for rollout in rollouts:
        for item, turns, completion in zip(rollout.tokens, rollout.turns, rollout.completions, strict=True):
            assert [turn.role for turn in turns] == (
                ["assistant", "tool", "assistant"] if item.sampled else ["assistant"]
            )
            assert turns[-1].content == completion.text
            assert completion.num_tokens == len(item.log_probs)


def test_the_first_turn_is_that_without_an_environment(chatml: BoundTemplate) -> None:
    plain = [item.ids for rollout in collect(chatml, None) for item in rollout.tokens]
    several = [item.ids for rollout in collect(chatml, twice) for item in rollout.tokens]
    assert [ids[: len(first)] for ids, first in zip(several, plain, strict=True)] == plain
    assert collect(chatml, None)[0].turns == []


def test_the_number_of_turns_is_limited(chatml: BoundTemplate) -> None:
    rollouts = collect(chatml, lambda messages, row: [Message("user", "go on")])
    turns = [[turn.role for turn in turns] for rollout in rollouts for turns in rollout.turns]
    assert max(map(len, turns)) == 5
    assert all(roles[-1] == "assistant" for roles in turns)


@pytest.mark.parametrize("reply", [["text"], 3, [Message("tool", "a"), None]])
def test_an_environment_that_fails_is_one_line_with_its_row(chatml: BoundTemplate, reply: Any) -> None:
    with pytest.raises(TrainingError) as caught:
        collect(chatml, lambda messages, row: reply)
    assert caught.value.key == "rollout.environment"
    assert "rows.jsonl:" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_environment_that_hangs_ends_the_run_with_its_name(chatml: BoundTemplate) -> None:
    with pytest.raises(TrainingError) as caught:
        collect(chatml, partial(hanging_step), timeout=0.05)
    assert caught.value.key == "rollout.environment"
    for part in ("helpers.bad_rewards.hanging_step", "rollout.environment_timeout", "rows.jsonl:"):
        assert part in str(caught.value)
