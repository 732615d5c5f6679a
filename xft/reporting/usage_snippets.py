"""How to use what came of a run: commands and code that work as they are pasted."""

import json
import shlex
import shutil
from pathlib import Path

from xft.reporting.html import Markup, joined, text
from xft.reporting.run_folder import RunFolder
from xft.utils import paths

_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="auto")
"""
_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
"""
_SCORES = """\
from {library} import {name}
from transformers import AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {name}.from_pretrained(folder, num_labels=1, dtype="auto")
messages = [{{"role": "user", "content": "Hello"}}, {{"role": "assistant", "content": "Hello! How can I help?"}}]
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
print(model(**inputs).logits)
"""
_ASK = """\
messages = [{"role": "user", "content": "Who are you?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def command(name: str) -> str:
    """How a command is typed here: by its name, or as the script of the checkout."""
    script = paths.PACKAGE.parent / "tools" / f"{name.replace('-', '_')}.py"
    if shutil.which("xft") is None and script.is_file():
        return f"python {shlex.quote(str(script))}"
    return f"xft {name}"


def usage(run: RunFolder) -> Markup:
    """Commands and code; for a run that has no model yet, how it goes on."""
    folder = shlex.quote(str(run.path.resolve()))
    if run.model is None:
        return _block(
            "Go on with the run", f"{command('train')} {folder}/config.py --work-dir {folder} --resume auto"
        )
    parts = [
        *_tried(run.model, folder),
        _block(
            "Write a folder that any tool loads",
            f"{command('convert')} {folder} {shlex.quote(str(run.path.resolve()) + '-merged')} --merge",
        ),
        _block("Load it in Python", code(run.model)),
    ]
    if not run.finished:
        parts.insert(
            0, _block("Go on with the run", f"{command('train')} {folder}/config.py --resume {folder}")
        )
    return joined(parts)


def _tried(model: Path, folder: str) -> list[Markup]:
    if is_reward_model(model):
        return [_block("Score answers", f"{command('score')} {folder} ROWS.jsonl")]
    return [
        _block("Talk to it", f"{command('chat')} {folder}"),
        _block("Serve it: a page to chat, and OpenAI's API", f"{command('serve')} {folder}"),
    ]


def is_reward_model(model: Path) -> bool:
    """Whether a saved model gives scores and not words, as its own files say."""
    for name, key in (("adapter_config.json", "task_type"), ("config.json", "architectures")):
        if (model / name).is_file():
            said = str(json.loads((model / name).read_text(encoding="utf-8")).get(key))
            return "SEQ_CLS" in said or "ForSequenceClassification" in said
    return False


def code(model: Path) -> str:
    """Python that loads a saved model and asks it, with ``peft`` and ``transformers`` alone."""
    adapted = (model / "adapter_config.json").is_file()
    if is_reward_model(model):
        library, prefix = ("peft", "AutoPeft") if adapted else ("transformers", "Auto")
        name = f"{prefix}ModelForSequenceClassification"
        return _SCORES.format(folder=str(model.resolve()), library=library, name=name)
    chats = (model / "chat_template.jinja").is_file()
    return (_ADAPTER if adapted else _WHOLE).format(folder=str(model.resolve())) + (_ASK if chats else "")


def _block(title: str, content: str) -> Markup:
    return Markup(f"<h3>{text(title)}</h3><pre>{text(content.rstrip())}</pre>\n")
