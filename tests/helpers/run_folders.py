"""Hand-made run folders, and a parser of pages."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from xft.reporting.html import POLICY

HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)>&lt;b&gt; \x1b[31m {{content}}"
ANSWERS = {
    0: [("Which file?", "I do not know.", 0.0), ("Who are you?", "Nobody.", None)],
    5: [("Which file?", "I do know.", 0.5), ("Who are you?", "Somebody.", None)],
    9: [("Which file?", "It is metrics.jsonl.", 1.0), ("Who are you?", HOSTILE, None)],
}
"""Question, answer and score by step."""
VOID = {"meta", "br", "img", "input", "link", "line", "circle", "polyline", "polygon"}


class Parsed(HTMLParser):
    """A page: its elements with their attributes, its text, and the text of each element by its id."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[tuple[str, str | None]] = []
        self.by_id: dict[str, str] = {}
        self.by_class: dict[str, list[str]] = {}
        self._classes: list[list[str]] = []
        self.unbalanced: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag in VOID:  # the end of a circle that holds a title is let pass
            return
        self.open.append((tag, found.get("id")))
        classes = (found.get("class") or "").split()
        self._classes.append(classes)
        for each in classes:
            self.by_class.setdefault(each, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1][0] != tag:
            self.unbalanced.append(tag)
            return
        self.open.pop()
        self._classes.pop()

    def handle_data(self, data: str) -> None:
        if any(tag == "style" for tag, _ in self.open):
            return
        self.text += data
        for _, name in self.open:
            if name is not None:
                self.by_id[name] = self.by_id.get(name, "") + data
        for classes in self._classes:
            for each in classes:
                self.by_class[each][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag]


def write_run(
    folder: Path,
    losses: list[float | None],
    answers: dict[int, list[tuple[str, str, float | None]]] | None = None,
    finished: bool = True,
    config: str = "seed = 0\n",
    **environment: Any,
) -> Path:
    """A run folder: a loss a step, a validation at its ends, and answers (question, answer, score) by step."""
    folder.mkdir(parents=True)
    records: list[dict[str, Any]] = [{"step": 0, "split": "val", "loss": 4.0, "perplexity": 54.6}]
    for step, loss in enumerate(losses, 1):
        values = {"loss": loss, "lr": 1e-3 / step, "grad_norm": loss, "tokens": 100, "target_tokens": 40}
        speed = {
            "tokens_per_second": 50.0,
            "target_tokens_per_second": 20.0,
            "peak_memory_bytes": 10**9 + step,
        }
        records.append({"step": step, "split": "train", **values, **speed})
    records.append({"step": len(losses), "split": "val", "loss": 2.0, "perplexity": 7.39})
    samples = []
    for step, asked in (answers or {}).items():
        for question, answer, score in asked:
            reference = None if score is None else "wanted"
            samples.append(
                {
                    "step": step,
                    "system": None,
                    "question": question,
                    "answer": answer,
                    "reference": reference,
                    "score": score,
                    "stopped": True,
                }
            )
    for name, lines in (("metrics", records), ("generations", samples)):
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "config.py").write_text(config, encoding="utf-8")
    if environment:
        (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    if finished:
        (folder / "final").mkdir()
    return folder


def assert_no_active_content(page: Parsed) -> None:
    """Check that a page has no scripts, handlers or external resources."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base"}
    for _, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset")
        ]
    policies = [meta.get("content") for meta in page.attributes("meta") if meta.get("http-equiv")]
    assert policies == [POLICY]
    assert page.unbalanced == []
    assert page.open == []
