"""What MkDocs calls while it builds the site: docstrings name things in Sphinx's way, which it does not read."""

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|math):\s?<code>(~?)([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show ``:class:`~xft.types.Batch``` as ``Batch``, and a formula as it is written."""
    return _ROLE.sub(
        lambda found: f"<code>{found[2].rpartition('.')[2] if found[1] else found[2]}</code>", html
    )
