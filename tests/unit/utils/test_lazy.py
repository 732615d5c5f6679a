"""Names whose modules are imported when they are used."""

import subprocess
import sys

import pytest

from xft.utils.lazy import lazy_names


def test_lazy_names_imports_the_module_of_a_name() -> None:
    get = lazy_names("xft", {"JSONDecoder": "json.decoder"})
    from json.decoder import JSONDecoder

    import xft

    try:
        assert get("JSONDecoder") is JSONDecoder
        assert vars(xft).pop("JSONDecoder") is JSONDecoder
    finally:
        vars(xft).pop("JSONDecoder", None)


def test_lazy_names_unknown_name_raises() -> None:
    with pytest.raises(AttributeError):
        lazy_names("xft", {})("absent")


@pytest.mark.parametrize(
    "statement",
    [
        "import xft.data.formats, xft.data.config.auto_format",
        "from xft.data.sources import resolve_source",
        "from xft.types import Message",
        "from xft.registry import resolve; resolve('format', 'alpaca')",
    ],
)
def test_rows_are_read_without_torch(statement: str) -> None:
    code = f"import sys; {statement}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
