"""Token ids and labels of real rows equal those of an earlier commit, for each template and tokenizer.

``label_digests.json`` was written by ``benchmarks/compare_commits.py COMMIT --digests``. Each entry is the number of
encoded rows and a digest of ids and labels. The digests do not depend on the machine.
"""

import hashlib
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xft.data import InstructionData, formats, prepare
from xft.errors import TemplateError
from xft.templates import SOURCES, ChatTemplate

ROWS = {
    "en": ("alpaca_en_demo.json#20", formats.alpaca),
    "zh": ("alpaca_zh_demo.json#20", formats.alpaca),
    "tools": ("glaive_toolcall_en_demo.json#10", formats.sharegpt),
}

TEMPLATES = {"smollm2": ("auto", "chatml"), "llama3": ("auto", "llama3_chat", "llama3_1_chat")}
"""Templates that are tested with a tokenizer; all, with Qwen3. The script compares all with all."""


@cache
def digests() -> dict[str, dict[str, str]]:
    """Return the digests by tokenizer and template."""
    grouped: dict[str, dict[str, str]] = defaultdict(dict)
    for name, entry in json.loads(Path(__file__).with_name("label_digests.json").read_text()).items():
        tokenizer, _, rest = name.partition(" ")
        grouped[tokenizer][rest] = entry
    return grouped


def encode(data: InstructionData, tokenizer: Any, template: ChatTemplate) -> str:
    """Return the number of encoded rows and the digest of their ids and labels."""
    samples = data.prepare(tokenizer, template.bind(tokenizer)).train
    digest = hashlib.sha256()
    for sample in samples:
        for part in (sample.input_ids, sample.labels):
            digest.update(np.array([len(part), *part.tolist()], dtype="<i4").tobytes())
    return f"{len(samples)} {digest.hexdigest()[:16]}"


@pytest.mark.parametrize("name", ["smollm2", "qwen3", "llama3"])
def test_ids_and_labels_equal_recorded_digests(
    name: str,
    shared: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The tokenizer stays the same, and its JSON of 11 MB would be written for each entry.
    monkeypatch.setattr(prepare, "tokenizer_fingerprint", cache(prepare.tokenizer_fingerprint))
    tokenizer = request.getfixturevalue(f"{name}_tokenizer")
    expected = {
        entry: text
        for entry, text in digests()[name].items()
        if text.startswith("0 ") and entry.split()[0] in TEMPLATES.get(name, entry)
    }
    assert len(expected) > 5
    actual = {}
    for entry in expected:
        template, _, kind = entry.partition(" ")
        file, row_format = ROWS[kind]
        data = InstructionData(
            str(shared / "data" / file),
            row_format,
            max_length=16384,
            val_split=None,
            on_invalid="quarantine",
            num_workers=1,
            cache_dir=str(tmp_path),
        )
        source = ChatTemplate() if template == "auto" else ChatTemplate(SOURCES[template])
        try:
            actual[entry] = f"0 {encode(data, tokenizer, source)}"
        except TemplateError as error:
            actual[entry] = repr(error)
    assert actual == expected
