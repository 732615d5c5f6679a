"""Pieces of a page. Whatever is not :class:`Markup` is text, and no character of it is ever markup."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xft.utils import paths
from xft.utils.console import CONTROL_PICTURES
from xft.version import __version__

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""No script, and nothing from anywhere: what a stranger's text would do, it cannot."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        first: the least value that it counts.
        last: the greatest.
        count: how many values lie between these, both included.
    """

    first: int
    last: int
    count: int


def text(value: Any) -> Markup:
    """A value as text for a page, in which no character is markup and none is swallowed."""
    if isinstance(value, Markup):
        return value
    written = str(value).translate(CONTROL_PICTURES).encode("utf-8", "backslashreplace").decode("utf-8")
    return Markup(html.escape(written))


def joined(parts: Iterable[Any], between: str = "") -> Markup:
    """Pieces, one behind the other."""
    return Markup(between.join(text(each) for each in parts))


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = (), kind: str = "") -> Markup:
    """A table.

    Args:
        rows: of cells, each text or markup.
        head: the names of the columns.
        kind: a class for the style.
    """
    above = "".join(f'<th scope="col">{text(each)}</th>' for each in head)
    body = "".join("<tr>" + "".join(f"<td>{text(each)}</td>" for each in row) + "</tr>\n" for row in rows)
    named = f' class="{kind}"' if kind else ""
    return Markup(
        f"<table{named}>\n{f'<thead><tr>{above}</tr></thead>' if above else ''}<tbody>\n{body}</tbody></table>\n"
    )


def card(title: Any, content: Any) -> Markup:
    """Something small in a frame of its own."""
    return Markup(f'<div class="card"><h3>{text(title)}</h3>{text(content)}</div>\n')


def section(name: str, title: Any, content: Any) -> Markup:
    """A part of a page; nothing where there is nothing in it."""
    if not content:
        return Markup()
    return Markup(f'<section id="{name}"><h2>{text(title)}</h2>\n{text(content)}</section>\n')


def folded(title: Any, content: Any, opened: bool = False) -> Markup:
    """Something that is shown when it is asked for."""
    state = " open" if opened else ""
    return Markup(f"<details{state}><summary>{text(title)}</summary>{text(content)}</details>\n")


def bars(title: str, counted: Sequence[Bar]) -> Markup:
    """A histogram, as a table with bars in it."""
    most = max((each.count for each in counted), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{each.first:,} – {each.last:,}</th><td>{_bar(each.count / most)}</td>'
        f"<td>{each.count:,}</td></tr>\n"
        for each in counted
    )
    return Markup(
        f'<figure><figcaption>{text(title)}</figcaption><table class="bars">\n{rows}</table></figure>\n'
    )


def _bar(share: float) -> str:
    return f'<i style="width:{100 * share:.1f}%"></i>' if share else ""


def page(title: str, subtitle: Any, content: Any, mark: str) -> str:
    """A whole page, without a script.

    Args:
        title: for its heading.
        subtitle: a line below it.
        content: the sections.
        mark: what wrote it, by which it is known again.
    """
    parts = {
        "mark": f'<meta name="generator" content="{mark}">',
        "policy": POLICY,
        "title": text(title),
        "subtitle": text(subtitle),
        "version": __version__,
        "content": text(content),
        "style": style("page", "run_page"),
    }
    return fill("run_page", parts)


def style(*names: str) -> str:
    """The style sheets of some names, one behind the other."""
    return "".join(_asset(f"{each}.css") for each in names)


def fill(name: str, parts: Mapping[str, str]) -> str:
    """Put parts into their places in a page. In one pass: what is put in is never looked through."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset(f"{name}.html"))


def _asset(name: str) -> str:
    return (paths.PACKAGE / "assets" / name).read_text(encoding="utf-8")
