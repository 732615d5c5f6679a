"""Verify a GGUF file with the reader of transformers."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from xft.errors import CheckpointError
from xft.export.gguf.architectures import DTYPES
from xft.export.verify.comparison import Comparison
from xft.export.verify.merge_check import TOLERANCES, Tolerance, compare_merged
from xft.export.verify.worker import compute_logits
from xft.models.gguf_loading import load_gguf
from xft.templates import BoundTemplate
from xft.types import Tokenizer

Q8_0_TOLERANCE = Tolerance(3e-2, 0.85)
"""Blocks of 32 weights with 8 bits each and a common 16-bit scale. Measured on SmolLM2-135M, the KL is
3e-3 nats, and the top-1 token differs at 3 % of the positions; the limits are ten times as large."""
TOKENIZER_PROBE = (
    "Ünïcode, 1234567 and 3.14!  two spaces\n\n\ttab 中文 עברית 🙂 don't I'LL <b>x</b> snake_case"
)
"""Text that wrongly read tokenizers split differently."""


def check_gguf(
    file: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    gguf_type: str,
    probes: Sequence[Sequence[Sequence[int]]],
) -> Comparison:
    """Load a GGUF file with transformers and compare it with the model that was written.

    Args:
        file: the GGUF file.
        model: the model that was written.
        tokenizer: its tokenizer.
        template: its chat template.
        gguf_type: key of ``DTYPES``.
        probes: inputs from ``read_probes``.

    Raises:
        CheckpointError: tokens, chat template or logits differ.
    """
    loaded = load_gguf(file, DTYPES[gguf_type])
    source = None if template is None else template.source
    if loaded.tokenizer.chat_template != source:
        raise CheckpointError(
            key=f"{file}: chat template",
            got=loaded.tokenizer.chat_template,
            expected="the template that was written",
        )
    # transformers ignores the file's flag for a leading space; a special token in front hides that.
    hard = TOKENIZER_PROBE if tokenizer.eos_token is None else tokenizer.eos_token + TOKENIZER_PROBE
    for text in (*(str(tokenizer.decode(rows[0])) for rows in probes), hard):
        actual, expected = (
            list(read(text, add_special_tokens=False)["input_ids"])
            for read in (loaded.tokenizer, tokenizer)
        )
        if actual != expected:
            raise CheckpointError(
                key=f"{file}: token ids of {text[:40]!r}…", got=actual[:8], expected=str(expected[:8])
            )
    expected_logits = [compute_logits(model, rows) for rows in probes]
    actual_logits = [compute_logits(loaded.model, rows) for rows in probes]
    tolerance = Q8_0_TOLERANCE if gguf_type == "q8_0" else TOLERANCES[DTYPES[gguf_type]]
    return compare_merged(expected_logits, actual_logits, tolerance, str(file))
