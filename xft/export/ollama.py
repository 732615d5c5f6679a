"""A ``Modelfile``, with which Ollama runs a GGUF file.

Ollama does not read Jinja: what a chat template does with plain turns is found out by rendering some,
written down in Ollama's own template language, and held against the chat template on other turns. A
template that does more than put texts around turns cannot be written so, and that is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xft.errors import TemplateError
from xft.templates import BoundTemplate
from xft.types import Message

_S, _U, _A, _V = "\ue000system\ue001", "\ue000user\ue001", "\ue000answer\ue001", "\ue000next\ue001"


@dataclass(frozen=True)
class Around:
    """What a chat template puts around turns.

    Attributes:
        start: before all.
        default: in the place of a system turn, where there is none.
        system: before and behind a system turn.
        user: before and behind a user's turn.
        answer: before and behind an answer.
        trims: whether white space at the ends of a turn is taken away, which Ollama's language cannot say.
    """

    start: str
    default: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    trims: bool = False

    def render(self, messages: Sequence[Message]) -> str:
        """The text of turns, up to where the next answer begins."""
        around = {"system": self.system, "user": self.user, "assistant": self.answer}
        text = self.start + ("" if messages[0].role == "system" else self.default)
        for each in messages:
            before, behind = around[each.role]
            text += before + each.content + behind
        return text + self.answer[0]


def find_around(template: BoundTemplate, bos_is_added: bool = False) -> Around | None:
    """What a chat template puts around turns, or ``None`` where it does something else too.

    Args:
        template: the chat template.
        bos_is_added: as in ``modelfile``.
    """
    try:
        return _find(template, bos_is_added)
    except (TemplateError, ValueError):
        return None  # no system turns, or turns that are moved, cut or left out


def _find(template: BoundTemplate, bos_is_added: bool) -> Around | None:
    turns = [Message("system", _S), Message("user", _U), Message("assistant", _A), Message("user", _V)]
    head, rest = template.render(turns, generation=True).split(_S)
    behind_system, rest = rest.split(_U)
    behind_user, rest = rest.split(_A)
    behind_answer, tail = rest.split(_V)
    header = template.header
    if not behind_user.endswith(header) or tail != behind_user:
        return None
    user_behind = behind_user.removesuffix(header)
    plain = template.render(turns[1:2], generation=True).split(_U)[0]
    bos = str(getattr(template.tokenizer, "bos_token", None) or "")
    # SmolLM2's BOS is what opens each of its turns: then it is a part of them, unless readers add it.
    own = bos_is_added or bos not in header
    start = bos if bos and own and head.startswith(bos) and plain.startswith(bos) else ""
    plain = plain.removeprefix(start)
    # Whatever is the same before every user's turn may be called its own; what closes a turn is not.
    common = _common_end(_common_end(behind_system, behind_answer), plain)
    before_user = common.rpartition(template.end_of_turn)[2].lstrip()
    found = Around(
        start,
        plain.removesuffix(before_user),
        (head.removeprefix(start), behind_system.removesuffix(before_user)),
        (before_user, user_behind),
        (header, behind_answer.removesuffix(before_user)),
    )
    tries = [turns[1:2], turns[:2], turns[1:], turns]
    if any(found.render(each) != template.render(each, generation=True) for each in tries):
        return None
    wide = [Message("user", f" {_U}\n")]
    return replace(found, trims=found.render(wide) != template.render(wide, generation=True))


def _common_end(left: str, right: str) -> str:
    size = 0
    while size < min(len(left), len(right)) and left[-size - 1] == right[-size - 1]:
        size += 1
    return left[len(left) - size :]


def modelfile(template: BoundTemplate | None, gguf: str, bos_is_added: bool) -> tuple[str, bool]:
    """The text of a ``Modelfile``.

    Args:
        template: the chat template; ``None`` for raw text.
        gguf: the file's name.
        bos_is_added: whether readers of the file put BOS before each text themselves.

    Returns:
        The text, and whether the chat template is in it.
    """
    lines = [f"FROM ./{gguf}"]
    if template is None:
        return "\n".join([*lines, 'TEMPLATE """{{ .Prompt }}"""', ""]), True
    around = find_around(template, bos_is_added)
    if around is None or '"""' in "".join([around.default, *around.system, *around.user, *around.answer]):
        lines.append(
            "# The chat template does more than Ollama's template language is told here: ask llama.cpp's"
        )
        lines.append("# server with --jinja, which reads it from the file, or write a TEMPLATE by hand.")
    else:
        if around.trims:
            lines.append(
                "# The chat template also takes white space at the ends of a turn away; this does not."
            )
        lines.append(f'TEMPLATE """{_go(around, bos_is_added)}"""')
    lines += [f'PARAMETER stop "{each}"' for each in template.stop_tokens]
    return "\n".join([*lines, ""]), around is not None


def _go(around: Around, bos_is_added: bool) -> str:
    """In Go's template language, as Ollama has it."""
    start = "" if bos_is_added else _quote(around.start)
    default = _quote(around.default)
    if default:
        default = '{{ if ne (index .Messages 0).Role "system" }}' + default + "{{ end }}"
    roles = (
        ("if", "system", around.system),
        ("else if", "user", around.user),
        ("else if", "assistant", around.answer),
    )
    turns = "".join(
        f'{{{{ {word} eq .Role "{role}" }}}}{_quote(pair[0])}{{{{ .Content }}}}{_quote(pair[1])}'
        for word, role, pair in roles
    )
    return f"{start}{default}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}{_quote(around.answer[0])}"


def _quote(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')
