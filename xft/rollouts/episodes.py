"""Episodes: completions of several turns, between which an environment responds.

Tokens stay token ids. A response of the environment is rendered alone, as the chat template writes it after an answer, and
appended to the ids; the turns of the model are never tokenized again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from xft.errors import TrainingError
from xft.models import TextGenerator
from xft.models.generation import Completion
from xft.models.sampling import SampledTokens
from xft.rollouts.environments import Environment
from xft.rollouts.user_code import call_with_timeout, describe_error
from xft.types import Message, Row

_PROBE = [Message("user", "question"), Message("assistant", "answer", is_target=True)]
Generate = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], list[list[SampledTokens]]]
"""Maps prompts, and for each prompt the seeds of its completions, to the completions of each prompt."""


@dataclass
class Episode:
    """A completion in progress.

    Attributes:
        prompt: ids of the prompt.
        row: columns of the row.
        origin: location of the row.
        tokens: all ids after the prompt, with log-probabilities and entropies of those that the model sampled.
        completion: last turn of the model, with the number of tokens of all its turns.
        messages: messages after the prompt.
    """

    prompt: list[int]
    row: Row
    origin: str
    tokens: SampledTokens
    completion: Completion
    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class EpisodeRunner:
    """Continue completions turn by turn until their episodes end.

    An episode ends if the environment returns ``None`` or no messages, after ``max_turns`` turns of the model, or with a turn
    that is cut at ``max_new_tokens``.

    Attributes:
        environment: function that responds to the model.
        max_turns: maximum number of turns of the model.
        generator: template, tokenizer and stop tokens.
        timeout: timeout in seconds of one call of the environment.
    """

    environment: Environment
    max_turns: int
    generator: TextGenerator
    timeout: float = 60.0

    def run(
        self, episodes: Sequence[Episode], seed_of: Callable[[int, int], int], generate: Generate
    ) -> None:
        """Run episodes to their end, in place.

        Args:
            episodes: episodes after the first turn of the model.
            seed_of: maps the index of an episode and the number of a turn to the seed of this turn.
            generate: function that samples turns.

        Raises:
            TrainingError: the environment raises an error, returns anything but messages or ``None``, or exceeds the timeout;
                or the engine fails.
            TemplateError: the chat template cannot render the messages of the environment.
        """
        running = list(range(len(episodes)))
        for turn in range(1, self.max_turns + 1):
            replies = {}
            for index in running:
                episode = episodes[index]
                episode.messages.append(Message("assistant", episode.completion.text))
                if turn < self.max_turns and episode.tokens.stopped:
                    replies[index] = self._step(episode)
            running = [index for index, reply in replies.items() if reply]
            if not running:
                return
            for index in running:
                self._append_reply(episodes[index], replies[index] or [])
            prompts = [[*episodes[index].prompt, *episodes[index].tokens.ids] for index in running]
            groups = generate(prompts, [[seed_of(index, turn)] for index in running])
            for index, (tokens,) in zip(running, groups, strict=True):
                self._append_turn(episodes[index], tokens)

    def _step(self, episode: Episode) -> Sequence[Message] | None:
        step = partial(self.environment, tuple(episode.messages), dict(episode.row))
        try:
            reply = call_with_timeout(step, self.timeout, "rollout.environment_timeout")
            if reply is not None and not all(isinstance(message, Message) for message in reply):
                raise TypeError(f"returned {reply!r:.60}; expected messages or None")
            return reply
        except Exception as error:
            reason = describe_error(error)
            raise TrainingError(
                f"rollout.environment: {_name_of(self.environment)}: {reason} (row {episode.origin})",
                key="rollout.environment",
                got=reason,
            ) from error

    def _append_reply(self, episode: Episode, reply: Sequence[Message]) -> None:
        tokens, ids = episode.tokens, self.reply_ids(reply)
        mask = tokens.sampled or [True] * len(tokens.ids)
        episode.messages.extend(reply)
        episode.tokens = replace(
            tokens, ids=[*tokens.ids, *ids], sampled=[*mask, *[False] * len(ids)], stopped=False
        )

    def _append_turn(self, episode: Episode, turn: SampledTokens) -> None:
        before = episode.tokens
        episode.tokens = SampledTokens(
            [*before.ids, *turn.ids],
            [*before.log_probs, *turn.log_probs],
            [*before.entropies, *turn.entropies],
            turn.stopped,
            [*before.sampled, *[True] * len(turn.ids)],
        )
        completion = self.generator.to_completion(turn.ids)
        episode.completion = replace(completion, num_tokens=len(episode.tokens.log_probs))

    def reply_ids(self, reply: Sequence[Message]) -> list[int]:
        """Return the ids of messages after an answer, up to the next answer of the model.

        Raises:
            TemplateError: the chat template cannot render the messages.
        """
        template = self.generator.template
        segments = template.segments([*_PROBE, *reply])
        last = max(index for index, segment in enumerate(segments) if segment.is_target)
        text = "".join(segment.text for segment in segments[last + 1 :]) + template.generation_prompt
        ids: list[int] = self.generator.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _name_of(environment: Environment) -> str:
    """Return the dotted path of an environment, without the arguments that the config binds."""
    function = environment.func if isinstance(environment, partial) else environment
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
