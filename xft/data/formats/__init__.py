"""Formats (dataset map functions): convert a row to a conversation, a pair, an unpaired example or a text.

A format takes a row and raises :class:`~xft.errors.DataError` if a field is missing or invalid; the caller adds
the file and the line. Its other arguments, such as column names, are set in the config:
``format=dict(type='alpaca', instruction='question')``. A custom format needs no registration: give its dotted
path, ``format='my_package.my_function'``.

``xft list formats`` prints all formats with an example row each (:data:`EXAMPLES`).
"""

from xft.data.formats.alpaca import alpaca, alpaca_zh
from xft.data.formats.auto import auto
from xft.data.formats.chat import llava, msagent, oasst1, openai, sharegpt, wizardlm, xtuner
from xft.data.formats.columns import columns
from xft.data.formats.examples import EXAMPLES, Example
from xft.data.formats.preferences import (
    alpaca_preference,
    intel_orca_dpo,
    orpo_dpo_mix_40k,
    preference,
    sharegpt_preference,
)
from xft.data.formats.presets import (
    arxiv,
    code_alpaca,
    crime_kg_assistant,
    law_reference,
    stack_exchange,
    tiny_codes,
)
from xft.data.formats.prompt import prompt
from xft.data.formats.single_turn import colors, medical, openorca, sql
from xft.data.formats.text import text
from xft.data.formats.unpaired import kto, prompt_completion

__all__ = [
    "EXAMPLES",
    "Example",
    "alpaca",
    "alpaca_preference",
    "alpaca_zh",
    "arxiv",
    "auto",
    "code_alpaca",
    "colors",
    "columns",
    "crime_kg_assistant",
    "intel_orca_dpo",
    "kto",
    "law_reference",
    "llava",
    "medical",
    "msagent",
    "oasst1",
    "openai",
    "openorca",
    "orpo_dpo_mix_40k",
    "preference",
    "prompt",
    "prompt_completion",
    "sharegpt",
    "sharegpt_preference",
    "sql",
    "stack_exchange",
    "text",
    "tiny_codes",
    "wizardlm",
    "xtuner",
]
