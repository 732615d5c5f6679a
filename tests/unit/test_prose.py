"""Names and prose follow the glossary: no private vocabulary in code and documentation."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "xft").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "zh" not in path.parts),
]

FORBIDDEN_NAMES = frozenset({"each", "found", "said", "wanted", "own"})
"""Variables and arguments that carry no type information."""

FORBIDDEN_PHRASES = {
    r"go(es|ing)? on (from|with)|went on (from|with)": "resume, continue",
    r"of them trained|what is trained|trained tokens?": "target tokens, trainable parameters",
    r"\bmend(s|ed)?\b": "fix",
    r"\banew\b": "from scratch, again",
    r"\bbeside the\b|\bbesides the\b": "next to, along with",
    r"\bstands? behind\b": "follow, after",
    r"\bset aside\b": "quarantined, held out, superseded",
    r"\bis told\b": "gets",
    r"\bof its own kind\b": "custom",
    r"\bat once\b": "at a time, immediately",
    r"\b(is|are) said\b": "is logged, is reported",
    r"\blearnt\b": "learned",
    r"\bwhatever\b": "any",
    r"\brehears(al|e|ed|es)\b": "dry run",
    r"\bportions?\b": "batch, chunk",
    r"\bforgiven\b": "skipped",
    r"\bis no more\b|\bno more than that\b": "(name the limit)",
    r"\blearns? by heart\b": "overfit",
    r"\bin vain\b": "for nothing",
    r"\bput together\b": "assemble, build",
    r"\bcolour|\bnormalis|\bquantis|\btokenis|\binitialis|\brecognis|\bserialis|\bbehaviour": "American spelling",
}
"""Pattern of the private vocabulary → the term of docs/glossary.md."""


def forbidden_names(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of variables and arguments that the style forbids."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in FORBIDDEN_NAMES:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg) and node.arg in FORBIDDEN_NAMES:
            yield node.lineno, node.arg


def forbidden_phrases(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, phrase and the term to use in its place."""
    for pattern, term in FORBIDDEN_PHRASES.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, match.group(), term


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_source_file_has_no_forbidden_names(file: Path) -> None:
    assert list(forbidden_names(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("file", [*SOURCES, *PAGES], ids=lambda file: str(file.relative_to(ROOT)))
def test_file_has_no_forbidden_phrases(file: Path) -> None:
    assert list(forbidden_phrases(file.read_text(encoding="utf-8"))) == []


def test_forbidden_name_is_detected() -> None:
    assert list(forbidden_names("def f(own):\n    for each in own:\n        pass")) == [
        (1, "own"),
        (2, "each"),
    ]


@pytest.mark.parametrize(
    "phrase", ["the run goes on from step 3", "files are set aside", "what is trained"]
)
def test_forbidden_phrase_is_detected(phrase: str) -> None:
    assert len(list(forbidden_phrases(f"first line\n{phrase}"))) == 1
