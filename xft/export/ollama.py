"""Write a ``Modelfile`` that runs a GGUF file with Ollama.

Ollama does not read Jinja. The texts around turns are found by rendering plain turns, written in
Ollama's template language, and checked against the chat template on other turns. A template that does
more than surround turns with text cannot be expressed, and the Modelfile then has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xft.errors import TemplateError
from xft.templates import BoundTemplate
from xft.types import Message

_SYSTEM, _USER, _ANSWER, _USER_2 = (
    "\ue000system\ue001",
    "\ue000user\ue001",
    "\ue000answer\ue001",
    "\ue000next\ue001",
)


@dataclass(frozen=True)
class TurnAffixes:
    """Texts that a chat template puts around turns.

    Attributes:
        start: before the first turn.
        default_system: in place of a missing system turn.
        system: before and after a system turn.
        user: before and after a user turn.
        assistant: before and after an assistant turn.
        trims: whether white space around a turn is stripped, which Ollama's language cannot express.
    """

    start: str
    default_system: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    trims: bool = False

    def render(self, messages: Sequence[Message]) -> str:
        """Render turns and the header of the next assistant turn."""
        affixes = {"system": self.system, "user": self.user, "assistant": self.assistant}
        text = self.start + ("" if messages[0].role == "system" else self.default_system)
        for message in messages:
            prefix, suffix = affixes[message.role]
            text += prefix + message.content + suffix
        return text + self.assistant[0]


def find_affixes(template: BoundTemplate, bos_is_added: bool = False) -> TurnAffixes | None:
    """Return the texts that a chat template puts around turns, or ``None`` if it does more than that.

    Args:
        template: the chat template.
        bos_is_added: as in ``modelfile``.
    """
    try:
        return _find_affixes(template, bos_is_added)
    except (TemplateError, ValueError):
        return None  # no system turns, or turns are moved, cut or dropped


def _find_affixes(template: BoundTemplate, bos_is_added: bool) -> TurnAffixes | None:
    turns = [
        Message("system", _SYSTEM),
        Message("user", _USER),
        Message("assistant", _ANSWER),
        Message("user", _USER_2),
    ]
    head, rest = template.render(turns, generation=True).split(_SYSTEM)
    after_system, rest = rest.split(_USER)
    after_user, rest = rest.split(_ANSWER)
    after_answer, tail = rest.split(_USER_2)
    header = template.generation_prompt
    if not after_user.endswith(header) or tail != after_user:
        return None
    user_suffix = after_user.removesuffix(header)
    plain = template.render(turns[1:2], generation=True).split(_USER)[0]
    bos = template.tokenizer.bos_token or ""
    # SmolLM2's BOS token also opens each turn: it then belongs to the turns, unless readers add it.
    is_separate = bos_is_added or bos not in header
    start = bos if bos and is_separate and head.startswith(bos) and plain.startswith(bos) else ""
    plain = plain.removeprefix(start)
    # Text common to all user turns belongs to the user prefix, except the end of the previous turn.
    common = _common_suffix(_common_suffix(after_system, after_answer), plain)
    user_prefix = common.rpartition(template.end_of_turn)[2].lstrip()
    affixes = TurnAffixes(
        start,
        plain.removesuffix(user_prefix),
        (head.removeprefix(start), after_system.removesuffix(user_prefix)),
        (user_prefix, user_suffix),
        (header, after_answer.removesuffix(user_prefix)),
    )
    conversations = [turns[1:2], turns[:2], turns[1:], turns]
    if any(affixes.render(part) != template.render(part, generation=True) for part in conversations):
        return None
    padded = [Message("user", f" {_USER}\n")]
    return replace(affixes, trims=affixes.render(padded) != template.render(padded, generation=True))


def _common_suffix(left: str, right: str) -> str:
    size = 0
    while size < min(len(left), len(right)) and left[-size - 1] == right[-size - 1]:
        size += 1
    return left[len(left) - size :]


def modelfile(
    template: BoundTemplate | None, gguf: str, bos_is_added: bool, system: str = ""
) -> tuple[str, bool]:
    """Return the text of a ``Modelfile``.

    Args:
        template: the chat template; ``None`` for raw text.
        gguf: name of the GGUF file.
        bos_is_added: whether readers of the file prepend BOS to each text.
        system: system message of conversations without one; empty for none.

    Returns:
        The text, and whether it contains the chat template.
    """
    lines = [f"FROM ./{gguf}"]
    if template is None:
        return "\n".join([*lines, 'TEMPLATE """{{ .Prompt }}"""', ""]), True
    affixes = find_affixes(template, bos_is_added)
    if affixes is None or '"""' in "".join(
        [affixes.default_system, *affixes.system, *affixes.user, *affixes.assistant]
    ):
        lines.append(
            "# The chat template cannot be expressed in Ollama's template language. Use llama.cpp's server with"
        )
        lines.append("# --jinja, which reads the template from the GGUF file, or write a TEMPLATE by hand.")
    else:
        if affixes.trims:
            lines.append(
                "# Unlike the chat template, this TEMPLATE does not strip white space around a turn."
            )
        lines.append(f'TEMPLATE """{_to_go_template(affixes, bos_is_added)}"""')
    lines += [f'PARAMETER stop "{token}"' for token in template.stop_tokens]
    if '"""' in system:
        lines.append(
            "# The system message of the training (data.system) has three quotes, which cannot be written here."
        )
    elif system:
        lines.append(f'SYSTEM """{system}"""')
    return "\n".join([*lines, ""]), affixes is not None


def _to_go_template(affixes: TurnAffixes, bos_is_added: bool) -> str:
    """Return the affixes as a Go template of Ollama."""
    start = "" if bos_is_added else _quote(affixes.start)
    default = _quote(affixes.default_system)
    if default:
        default = '{{ if ne (index .Messages 0).Role "system" }}' + default + "{{ end }}"
    roles = (
        ("if", "system", affixes.system),
        ("else if", "user", affixes.user),
        ("else if", "assistant", affixes.assistant),
    )
    turns = "".join(
        f'{{{{ {word} eq .Role "{role}" }}}}{_quote(pair[0])}{{{{ .Content }}}}{_quote(pair[1])}'
        for word, role, pair in roles
    )
    return f"{start}{default}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}{_quote(affixes.assistant[0])}"


def _quote(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')
