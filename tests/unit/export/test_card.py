"""The model card, Ollama's template, and what is pushed to a hub."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from xft.errors import CheckpointError, ConfigError
from xft.export import push
from xft.export.card import is_on_hub, public_name, write_card
from xft.export.ollama import find_around, modelfile
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import Message

CONFIG = """\
model = {"type": "causal_lm", "path": "/home/somebody/base"}
adapter = {"type": "lora", "r": 4}
data = {"type": "instruction", "path": "/home/somebody/rows.jsonl", "format": "alpaca", "max_length": 128}
loggers = {"wandb": {"type": "wandb", "api_key": "hunter2"}}
training = {"epochs": 2}
seed = 0
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "home" / "run"
    (run / "final").mkdir(parents=True)
    (run / "config.py").write_text(CONFIG)
    report = {
        "rows_read": 1200,
        "rows_trained": 1100,
        "rows_validated": 60,
        "rows_dropped": {"too long": 40},
    }
    (run / "data_report.json").write_text(json.dumps(report))
    rows: list[dict[str, Any]] = [
        {"step": 0, "split": "val", "loss": 2.5},
        {"step": 0, "split": "questions", "score": 1, "questions": 3},
        {"step": 9, "split": "val", "loss": 1.25},
        {"step": 9, "split": "questions", "score": 3, "questions": 3},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    asked = [(0, "no"), (9, "<script>x</script> | [a](b)\n# yes")]
    (run / "samples.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "question": "Q?", "answer": answer}) + "\n" for step, answer in asked
        )
    )
    return run


def test_a_card_says_what_was_done_and_nothing_that_is_private(run: Path, tmp_path: Path) -> None:
    write_card(tmp_path, run / "final", "/home/somebody/base", "adapter", "run")
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\npipeline_tag: text-generation\n")
    assert "1,200 rows read: 1,100 trained on, 60 validated on, 40 dropped." in card
    assert "- validation loss: 2.5 at step 0, 1.25 at step 9" in card
    assert "- sample questions, score: 1 at step 0, 3 at step 9 of 3" in card
    assert "| adapter.r | 4 |" in card
    assert "| data.max_length | 128 |" in card
    for secret in ("hunter2", "somebody", "rows.jsonl", str(tmp_path)):
        assert secret not in card
    row = next(line for line in card.splitlines() if line.startswith("| Q?"))
    assert "<" not in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_a_base_is_named_where_others_can_find_it(run: Path, tmp_path: Path) -> None:
    write_card(tmp_path, run, "owner/name", "model", "run")
    assert 'base_model: "owner/name"\n' in (tmp_path / "README.md").read_text()
    assert [public_name(each) for each in ("/a/b", "./c", "o/n", "xft://m")] == ["b", "c", "o/n", "xft://m"]
    assert [is_on_hub(each) for each in ("o/n", "xft://m", "/a/b", "a")] == [True, False, False, False]


def test_a_config_that_would_have_to_be_run_is_not(run: Path, tmp_path: Path) -> None:
    (run / "config.py").write_text("raise SystemExit(3)")
    write_card(tmp_path, run, "owner/name", "model", "run")
    assert "has components of its own, which are not shown here" in (tmp_path / "README.md").read_text()


def test_a_broken_record_is_said(run: Path, tmp_path: Path) -> None:
    (run / "metrics.jsonl").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the records of the run for the model card"):
        write_card(tmp_path, run, "owner/name", "model", "run")


@pytest.mark.parametrize("name", ["chatml", "llama3_chat", "zephyr", "phi3_chat"])
def test_what_ollama_is_told_renders_as_the_chat_template(name: str, make_byte_tokenizer: Any) -> None:
    from xft.registry import resolve

    specials = (
        "<|im_start|>",
        "<|im_end|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|end|>",
    )
    tokenizer = make_byte_tokenizer(specials=specials)
    made: Any = resolve("template", name)()
    template = made.bind(tokenizer)
    around = find_around(template)
    assert around is not None
    turns = [Message("user", "a {{ b }}"), Message("assistant", "c"), Message("user", "d")]
    assert around.trims == (name == "llama3_chat")
    for each in (turns, [Message("system", "s"), *turns]):
        assert around.render(each) == template.render(each, generation=True)


def test_ollamas_template_is_written_in_go(make_byte_tokenizer: Any) -> None:
    source = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    text, told = modelfile(BoundTemplate(make_byte_tokenizer(), source), "model.gguf", False)
    assert told
    assert text == (
        'FROM ./model.gguf\nTEMPLATE """{{ if ne (index .Messages 0).Role "system" }}<|im_start|>system\n'
        "Be kind.<|im_end|>\n{{ end }}{{ range .Messages }}"
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        '{{ end }}{{ end }}<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n'
    )


def test_a_bos_that_also_opens_turns_stays_with_them(smollm2_tokenizer: Any) -> None:
    assert smollm2_tokenizer.bos_token == "<|im_start|>"
    template = ChatTemplate().bind(smollm2_tokenizer)
    text, _ = modelfile(template, "model.gguf", False)
    assert '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n' in text
    around = find_around(template, bos_is_added=True)
    assert around is not None
    assert around.start == "<|im_start|>"


def test_a_template_that_does_more_is_not_told_wrongly(make_byte_tokenizer: Any) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.index0 > 2 %}X{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    text, told = modelfile(ChatTemplate(source).bind(make_byte_tokenizer()), "model.gguf", False)
    assert not told
    assert 'TEMPLATE "' not in text
    assert 'PARAMETER stop "<|im_end|>"' in text


class Hub:
    """In the place of ``huggingface_hub.HfApi``."""

    calls: list[tuple[str, Any]] = []  # noqa: RUF012 - shared on purpose

    def create_repo(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))

    def upload_folder(self, **options: Any) -> str:
        self.calls.append(("upload", options))
        return "done"


def test_a_push_makes_a_private_repository_and_sends_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    Hub.calls.clear()
    (tmp_path / "xft.json").write_text(json.dumps({"base": "/home/somebody/base", "dtype": "float32"}))
    assert push.push(tmp_path, "owner/name") == "owner/name"
    (name, made), (_, sent) = Hub.calls
    assert (name, made["private"]) == ("owner/name", True)
    assert sent["folder_path"] == tmp_path
    assert sent["ignore_patterns"] == ["xft.json"]


def test_a_hub_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(CheckpointError, match=r"the hub does not take owner/name \(no route to host\)"):
        push.push(tmp_path, "owner/name")


def test_an_adapter_that_nobody_else_could_use_is_not_pushed(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "xft.json").write_text(json.dumps({"base": "/home/somebody/base", "dtype": "float32"}))
    with pytest.raises(ConfigError, match="the adapter belongs on 'base', which is on no hub"):
        push.check_push("owner/name", str(tmp_path), whole=False)
    push.check_push("owner/name", str(tmp_path), whole=True)
    with pytest.raises(ConfigError, match="expected owner/name"):
        push.check_push("name", str(tmp_path), whole=True)
