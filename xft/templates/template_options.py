"""Options of a chat template other than its source."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from xft.errors import ConfigError, XftError
from xft.templates.message_fields import check_json

EmptyThought = Literal["mask", "train", "absent"]
SET_BY_XFT = ("messages", "tools", "add_generation_prompt")


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """Options of a chat template other than its source.

    Attributes:
        empty_thought: how to handle the empty thinking block before an answer without reasoning.
        mask_history: whether only the last target answer is in the loss.
        chat_template_kwargs: variables of the template.

    Raises:
        ConfigError: An option has an invalid value, or a variable is reserved for xft or is not JSON.
    """

    empty_thought: EmptyThought = "mask"
    mask_history: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.empty_thought not in get_args(EmptyThought):
            expected = ", ".join(get_args(EmptyThought))
            raise ConfigError(key="template.empty_thought", got=self.empty_thought, expected=expected)
        key = "chat_template_kwargs"
        if not isinstance(self.chat_template_kwargs, Mapping):
            raise ConfigError(
                key=key, got=self.chat_template_kwargs, expected="a dict of template variables"
            )
        for name, value in self.chat_template_kwargs.items():
            if not str(name).isidentifier() or name in SET_BY_XFT:
                raise ConfigError(
                    key=f"{key}.{name}", got=value, expected="a variable that xft does not set"
                )
            check_json(value, f"{key}.{name}")


def absent_thought_error(kind: type[XftError]) -> XftError:
    """Create the error for a thinking block that is removed in training, and part of the generation prompt."""
    return kind(
        key="template.empty_thought",
        got="absent",
        expected="'mask' or 'train' if the generation prompt contains the empty thinking block",
        fix="with enable_thinking=False, the model would be trained without the block and prompted with it",
    )


def with_default_kwargs(source: str, chat_template_kwargs: Mapping[str, Any]) -> str:
    """Return a source with the given defaults for variables.

    The defaults are saved with the model, so that any program that serves it renders the same prompts as
    training. Variables that the program passes override the defaults.
    """
    for name, value in chat_template_kwargs.items():
        # The empty expression preserves a leading line break, which Jinja would remove after a statement.
        condition = f"{name} if {name} is defined and {name} is not none else {_literal(value)}"
        source = f"{{% set {name} = {condition} %}}{{{{ '' }}}}{source}"
    return source


def by_tools(sources: Mapping[str, str]) -> str:
    """Return one source for a tokenizer with several, of which Command R and Hermes have one for tools.

    As in ``apply_chat_template``, the source ``tool_use`` renders conversations with tools.
    """
    if "tool_use" not in sources:
        return sources["default"]
    # The empty expressions preserve line breaks next to the statements.
    with_tools, plain = (
        f"{{{{ '' }}}}{sources[name].removesuffix(chr(10))}{{{{ '' }}}}" for name in ("tool_use", "default")
    )
    return f"{{% if tools %}}{with_tools}{{% else %}}{plain}{{% endif %}}"


def _literal(value: object) -> str:
    """Return a JSON value as a Jinja literal."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return "none" if value is None else _text(value)


def _text(value: object) -> str:
    # Not in ASCII: Jinja reads the two escapes of a character beyond U+FFFF as two surrogates.
    return json.dumps(value, ensure_ascii=False)
