"""The data sets that a config may declare: conversations, and raw text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

from xft.data.base import Entry, Source, Validation
from xft.data.encode import check_text, encode_conversations, encode_text, shorten
from xft.data.formats import alpaca, text
from xft.data.ledger import Ledger
from xft.data.sources import Located, Origin
from xft.errors import DataError
from xft.registry import register
from xft.templates import BoundTemplate
from xft.types import ROLES, Conversation, Message, Row, Sample, Tokenizer

_BATCH = 1000


@register("data", "instruction")
class InstructionData(Source):
    """Rows of questions and answers. Only answers are trained.

    Args:
        path: a file, ``xft://NAME``, a hub data set, or a list of these.
        format: the map function, from a row to messages.
        max_length: the most tokens that one conversation may have.
        over_length: what becomes of a longer one: ``drop`` it, ``truncate`` its longest turn
            (never a header or an end-of-turn token), or stop with an ``error``.
        max_hurt: refuse to start when a larger share of the rows is dropped or cut for length.
        packing: put whole conversations side by side into rows of ``max_length`` tokens. They
            never see each other, and none is split.
        val: what is validated on: a share, a number of rows, a file, or ``None``.
        split: which split of a hub data set to take.
        split_seed: chooses the validation rows, apart from the training's seed.
        invalid: a row that does not fit is an ``error``, or is counted and set aside.
    """

    def __init__(
        self,
        path: str | list[str],
        format: Callable[..., Any] = alpaca,
        max_length: int = 2048,
        over_length: Literal["drop", "truncate", "error"] = "drop",
        max_hurt: float = 0.1,
        packing: bool = True,
        val: Validation = 0.05,
        split: str = "train",
        split_seed: int = 0,
        invalid: Literal["error", "quarantine"] = "error",
    ) -> None:
        super().__init__(path, format, max_length, val, split, split_seed, invalid)
        self.over_length = over_length
        self.max_hurt = max_hurt
        self.packing = packing

    def encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[Entry]:
        """Map rows to conversations, and encode those in one batch after the other."""
        assert template is not None
        for begin in range(0, len(rows), _BATCH):
            chunk = rows[begin : begin + _BATCH]
            mapped = list(self._map(chunk, ledger))
            encoded = encode_conversations([each for _, _, each in mapped], template, tokenizer)
            for (origin, row, conversation), result in zip(mapped, encoded, strict=True):
                if isinstance(result, DataError):
                    self.reject(ledger, origin, row, result)
                    continue
                ledger.lengths.append(len(result))
                sample = self._fit(origin, conversation, result, template, tokenizer, ledger)
                if sample is not None:
                    yield Entry(origin, row, [sample])

    def _map(self, rows: Sequence[Located], ledger: Ledger) -> Iterator[tuple[Origin, Row, Conversation]]:
        for origin, row in rows:
            ledger.rows_read += 1
            try:
                conversation = self.format(row)
                _check_conversation(conversation)
            except DataError as error:
                self.reject(ledger, origin, row, error)
            else:
                yield origin, row, conversation

    def _fit(
        self,
        origin: Origin,
        conversation: Conversation,
        sample: Sample,
        template: BoundTemplate,
        tokenizer: Tokenizer,
        ledger: Ledger,
    ) -> Sample | None:
        if len(sample) <= self.max_length:
            return sample
        if self.over_length == "error":
            raise DataError(
                f"{origin}: got {len(sample)} tokens, expected at most data.max_length={self.max_length}; "
                "raise it, or set data.over_length to 'drop' or 'truncate'"
            )
        cut = None
        if self.over_length == "truncate":
            cut = shorten(conversation, template, tokenizer, self.max_length)
        if cut is None:
            ledger.rows_dropped["longer than max_length"] += 1
        else:
            ledger.rows_truncated += 1
        return cut

    def refuse_losses(self, ledger: Ledger) -> None:
        """Refuse to start when more than ``max_hurt`` of the rows are too long."""
        hurt = ledger.rows_dropped["longer than max_length"] + ledger.rows_truncated
        if hurt > self.max_hurt * ledger.rows_read:
            raise DataError(
                f"data.max_length={self.max_length} hurts {hurt} of {ledger.rows_read} rows "
                f"({hurt / ledger.rows_read:.0%}), more than data.max_hurt={self.max_hurt:.0%}; lengths in "
                f"tokens: {ledger.length_summary()}; raise data.max_length, or allow it with data.max_hurt"
            )


@register("data", "text")
class TextData(Source):
    """Raw text for continued pretraining. Every token is trained.

    Documents are separated by EOS and cut into chunks without loss. The arguments are those of
    :class:`InstructionData`; a document is never too long.
    """

    uses_template = False

    def __init__(
        self,
        path: str | list[str],
        format: Callable[..., Any] = text,
        max_length: int = 2048,
        packing: bool = True,
        val: Validation = 0.05,
        split: str = "train",
        split_seed: int = 0,
        invalid: Literal["error", "quarantine"] = "error",
    ) -> None:
        super().__init__(path, format, max_length, val, split, split_seed, invalid)
        self.packing = packing

    def encode(
        self,
        rows: list[Located],
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        ledger: Ledger,
    ) -> Iterator[Entry]:
        """Cut documents into chunks, without loss."""
        for origin, row in rows:
            ledger.rows_read += 1
            try:
                document = self.format(row)
                if not isinstance(document, str) or not document.strip():
                    raise DataError(f"got {document!r:.60}, expected text that is not empty")
                check_text(document)
            except DataError as error:
                self.reject(ledger, origin, row, error)
                continue
            samples = encode_text(document, tokenizer, self.max_length)
            ledger.lengths.append(sum(each.num_targets for each in samples))
            yield Entry(origin, row, samples)


def _check_conversation(conversation: Conversation) -> None:
    if conversation is None or isinstance(conversation, (str, dict)):
        raise DataError(
            f"the format gives {conversation!r:.60}, expected messages; raw text is for data type='text'"
        )
    if not all(isinstance(each, Message) and each.role in ROLES for each in conversation):
        raise DataError(f"the format gives {conversation!r:.100}, expected Messages of {', '.join(ROLES)}")
    answers = [each for each in conversation if each.trained]
    if not answers:
        raise DataError("the row has no answer to learn (no trained turn of the assistant)")
    if any(not each.content.strip() for each in answers):
        raise DataError("an answer is empty, so there is nothing to learn from the row")
    for before, after in pairwise(conversation):
        if before.role == after.role and after.role != "tool":
            raise DataError(f"two turns of the {after.role} in a row")
