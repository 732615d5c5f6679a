"""Render pages from the Jinja2 templates of this package.

Run folders and data sets contain untrusted text, so autoescape is on, control characters are replaced
by pictures, and the content security policy of each page forbids scripts and network access.
"""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xft.errors import ConfigError
from xft.utils.console import CONTROL_PICTURES, format_score
from xft.utils.temporary_folder import temporary_folder
from xft.version import __version__

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content security policy of pages without scripts."""


def _visible(value: object) -> object:
    """Replace control characters and lone surrogates in a value that is printed in a page."""
    if isinstance(value, Markup):
        return value
    return str(value).translate(CONTROL_PICTURES).encode("utf-8", "backslashreplace").decode("utf-8")


def _asset(name: str) -> Markup:
    """Return a style sheet or script of this package, which is trusted."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


@cache
def environment() -> Environment:
    """Return the template environment of the pages."""
    env = Environment(
        loader=PackageLoader("xft.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(asset=_asset, POLICY=POLICY, VERSION=__version__)
    env.filters["score"] = format_score
    return env


def render(template: str, **context: object) -> str:
    """Render a page.

    Args:
        template: file name in ``templates/``.
        context: variables of the template.
    """
    return environment().get_template(template).render(**context)


def write_page(path: Path, page: str, generator: str) -> Path:
    """Write a page atomically.

    Args:
        path: of the page.
        page: its source.
        generator: value of the page's ``generator`` meta element; a file without it is not overwritten.

    Raises:
        ConfigError: the page cannot be written.
    """
    try:
        if path.exists() and not was_generated_by(path, generator):
            raise ConfigError(
                key=str(path),
                got="an existing file of another program",
                expected=f"a new file, or a page written by {generator}",
                fix="choose another name, or delete the file",
            )
        with temporary_folder(path) as folder:
            page_file = folder / "page"
            page_file.write_text(page, encoding="utf-8")
            page_file.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror})", key=str(path)) from error
    return path


def was_generated_by(path: Path, generator: str) -> bool:
    """Whether an existing file is a page of ``generator``."""
    with path.open("rb") as file:
        return f'content="{generator}"'.encode() in file.read(1000)
