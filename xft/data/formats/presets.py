"""Presets of ``columns`` for datasets with one question column and one answer column.

Each takes the arguments ``user``, ``assistant``, ``system_text`` and ``split_think`` of ``columns``.
"""

from collections.abc import Callable
from typing import Any

from xft.data.formats.columns import columns
from xft.registry import register
from xft.types import Row

ARXIV = (
    "If you are an expert in writing papers, please generate a good paper title for this paper based on "
    "other authors' descriptions of their abstracts."
)
"""XTuner's system text for ``arxiv``, without its last line break."""


def _preset(
    name: str, user: str, assistant: str, description: str, system_text: str = ""
) -> Callable[..., Any]:
    """Register ``columns`` under another name, with other defaults and a description."""

    # The defaults are those of the outer function, evaluated once per preset. A preset with its own name and
    # signature, unlike a partial, can be pickled for worker processes and checked by the config.
    def preset(
        row: Row,
        user: str = user,
        assistant: str = assistant,
        system_text: str = system_text,
        split_think: bool = True,
    ) -> Any:
        return columns(row, user, assistant, system_text=system_text, split_think=split_think)

    preset.__name__ = preset.__qualname__ = name
    preset.__doc__ = description
    return register("format", name)(preset)


arxiv = _preset(
    "arxiv", "abstract", "title", "Kaggle's arXiv metadata: from an ``abstract`` to its ``title``.", ARXIV
)
code_alpaca = _preset(
    "code_alpaca",
    "prompt",
    "completion",
    "Code Alpaca (``HuggingFaceH4/CodeAlpaca_20K``): ``prompt`` and ``completion``.",
)
crime_kg_assistant = _preset(
    "crime_kg_assistant",
    "input",
    "output",
    "CrimeKgAssitant, cleaned by LAW-GPT (52k Chinese legal questions): ``input`` and ``output``.",
)
law_reference = _preset(
    "law_reference",
    "question",
    "answer",
    "LAW-GPT with legal references (92k Chinese rows): ``question`` and ``answer``; ``reference`` is not read.",
)
stack_exchange = _preset(
    "stack_exchange",
    "question",
    "response",
    "Stack Exchange (``ArmelR/stack-exchange-instruction``): ``question`` and ``response``.",
)
tiny_codes = _preset(
    "tiny_codes",
    "prompt",
    "response",
    "Tiny Codes (``nampdn-ai/tiny-codes``): ``prompt`` and ``response``.",
)
