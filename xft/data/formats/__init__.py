"""Formats (dataset map functions): one row becomes a conversation, a pair, a judgement or a text.

A map function takes a row and raises :class:`~xft.errors.DataError` where a field is missing or
wrong; the caller adds the file and the line. Its other arguments are names of columns and the
like, given in the config: ``format=dict(type='alpaca', instruction='question')``. One of your own
needs no registering: name it by its dotted path, ``format='my_package.my_function'``.

``xft list formats`` prints them all with an example row each (:data:`EXAMPLES`).
"""

from xft.data.formats.alpaca import alpaca, alpaca_zh
from xft.data.formats.chat import llava, msagent, oasst1, openai, sharegpt, wizardlm, xtuner
from xft.data.formats.columns import columns
from xft.data.formats.examples import EXAMPLES, Example
from xft.data.formats.preferences import (
    intel_orca_dpo,
    kto,
    orpo_dpo_mix_40k,
    preference,
    sharegpt_preference,
)
from xft.data.formats.single_turn import (
    arxiv,
    code_alpaca,
    colors,
    crime_kg_assistant,
    law_reference,
    medical,
    openorca,
    sql,
    stack_exchange,
    tiny_codes,
)
from xft.data.formats.text import text

__all__ = [
    "EXAMPLES",
    "Example",
    "alpaca",
    "alpaca_zh",
    "arxiv",
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
    "sharegpt",
    "sharegpt_preference",
    "sql",
    "stack_exchange",
    "text",
    "tiny_codes",
    "wizardlm",
    "xtuner",
]
