"""Chat templates for models whose tokenizer has none, under the names that users of XTuner know.

Each is a ``.jinja`` file, which any tool that renders chat templates can load. The first line is a comment with the
description. The text equals that of the official template; tests compare the two where the official tokenizer is
available. ``<name>_xtuner`` and ``default`` render as XTuner 0.1.23 did (``PROMPT_TEMPLATE`` and ``encode_fn``),
where it differed from the official template, for checkpoints trained with XTuner.

Templates decide by roles only, never by content, unless the official template does too. What a model family does
not support is refused, never dropped. Reasoning is the exception: a template that does not read
``reasoning_content`` gets the reasoning inside the content.

Sources: ``chat_template`` in ``tokenizer_config.json`` of Qwen 1.5 to 3, InternLM 2, MiniCPM 2B and 3,
Llama 2 to 3.1, Code Llama, Mistral 7B Instruct 0.2, Mixtral 8x7B Instruct 0.1, Zephyr 7B beta, Gemma 7B and
3 4B, Command R, Phi 3 mini, Phi 4 and 4 mini, ChatGLM 3, GLM 4, DeepSeek Coder, MoE, V2 and V3, Mistral 7B
Instruct 0.3, Nemo and Small 3, Granite 4.0, gpt-oss, ERNIE 4.5, EXAONE 3.5, LFM 2, Seed-OSS, OpenChat 3.5,
OLMo 2; ``chat_format.md`` of InternLM 2 and its agent Lagent for tools; ``build_inputs`` of InternLM 1,
``build_prompt`` of ChatGLM 2, ``build_chat_input`` of Baichuan 1 and 2; ``vicuna_v1.1`` of FastChat; the
model cards of Vicuna, WizardLM, WizardCoder and MOSS. ChatGLM, Baichuan 2 and MiniCPM do not end earlier
answers but are trained to stop with EOS; here EOS ends every answer.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xft.registry import register
from xft.templates.base import ChatTemplate
from xft.templates.template_options import EmptyThought


def _load() -> tuple[dict[str, str], dict[str, str]]:
    sources, descriptions = {}, {}
    for file in sorted(Path(__file__).parent.glob("*.jinja")):
        comment, _, sources[file.stem] = file.read_text(encoding="utf-8").partition("\n")
        descriptions[file.stem] = re.sub(r"^\{#- | #\}$", "", comment)
    return sources, descriptions


SOURCES, DESCRIPTIONS = _load()
"""Jinja source and one-line description of each template, by name."""


@register("template", "auto")
class TokenizerTemplate(ChatTemplate):
    """The chat template of the tokenizer."""

    def __init__(
        self,
        empty_thought: EmptyThought = "mask",
        mask_history: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(None, empty_thought, mask_history, chat_template_kwargs)


@register("template", "jinja")
class JinjaTemplate(ChatTemplate):
    """A Jinja source given in the config.

    Args:
        source: Jinja source of the template.
        empty_thought, mask_history, chat_template_kwargs: as in :class:`~xft.templates.ChatTemplate`.
    """

    def __init__(
        self,
        source: str,
        empty_thought: EmptyThought = "mask",
        mask_history: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(source, empty_thought, mask_history, chat_template_kwargs)


def _register(name: str) -> None:
    class LibraryTemplate(ChatTemplate):
        def __init__(
            self,
            empty_thought: EmptyThought = "mask",
            mask_history: bool = False,
            chat_template_kwargs: Mapping[str, Any] | None = None,
        ) -> None:
            super().__init__(SOURCES[name], empty_thought, mask_history, chat_template_kwargs)

    LibraryTemplate.__doc__ = DESCRIPTIONS[name]
    register("template", name)(LibraryTemplate)


for _name in SOURCES:
    _register(_name)
