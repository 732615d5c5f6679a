"""Commands and Python code that use the model of a run."""

import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from xft.reporting.run_folder import RunFolder
from xft.utils import paths
from xft.utils.paths import METADATA_FILE

_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="auto")
"""
_RESOLVED_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from xft.models.hub import resolve_path

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
base = AutoModelForCausalLM.from_pretrained(resolve_path({base!r}), dtype="auto")
model = PeftModel.from_pretrained(base, folder)
"""
_FULL_MODEL = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
"""
_REWARD_MODEL = """\
from {library} import {name}
from transformers import AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {name}.from_pretrained(folder, num_labels=1, dtype="auto")
messages = [{{"role": "user", "content": "Hello"}}, {{"role": "assistant", "content": "Hello! How can I help?"}}]
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
print(model(**inputs).logits)
"""
_GENERATE = """\
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Snippet:
    """Title and code of a usage example."""

    title: str
    code: str


def command(name: str) -> str:
    """Return the words that start a command from any folder: ``xft NAME``, or the path of ``xft`` or of a script."""
    if shutil.which("xft") is not None:
        return f"xft {name}"
    program = Path(sys.executable).parent / "xft"
    if program.is_file():
        return f"{shlex.quote(str(program))} {name}"
    script = paths.PACKAGE.parent / "tools" / f"{name.replace('-', '_')}.py"
    return f"python {shlex.quote(str(script))}" if script.is_file() else f"xft {name}"


def usage_snippets(run: RunFolder) -> list[Snippet]:
    """Return usage examples for the model of a run, or the command that resumes an unfinished run."""
    folder = shlex.quote(str(run.path.resolve()))
    resume = f"{command('train')} {folder}/config.py"
    if run.model is None:
        return [Snippet("Resume the run", f"{resume} --work-dir {folder} --resume auto")]
    target = shlex.quote(str(run.path.resolve()) + "-merged")
    snippets = [
        *_inference_snippets(run.model, folder),
        Snippet("Export to a Hugging Face folder", f"{command('convert')} {folder} {target} --merge"),
        Snippet("Load in Python", python_code(run.model)),
    ]
    if not run.finished:
        snippets.insert(0, Snippet("Resume the run", f"{resume} --resume {folder}"))
    return snippets


def _inference_snippets(model: Path, folder: str) -> list[Snippet]:
    if is_reward_model(model):
        return [Snippet("Score answers", f"{command('score')} {folder} ROWS.jsonl")]
    return [
        Snippet("Chat in the terminal", f"{command('chat')} {folder}"),
        Snippet("Serve a chat page and an OpenAI-compatible API", f"{command('serve')} {folder}"),
    ]


def is_reward_model(model: Path) -> bool:
    """Whether the config of a saved model declares a classification head."""
    for name, key in (("adapter_config.json", "task_type"), ("config.json", "architectures")):
        if (model / name).is_file():
            value = str(json.loads((model / name).read_text(encoding="utf-8")).get(key))
            return "SEQ_CLS" in value or "ForSequenceClassification" in value
    return False


def python_code(model: Path) -> str:
    """Return Python code that loads a saved model with ``peft`` or ``transformers`` and runs it."""
    folder = str(model.resolve())
    is_adapter = (model / "adapter_config.json").is_file()
    if is_reward_model(model):
        library, prefix = ("peft", "AutoPeft") if is_adapter else ("transformers", "Auto")
        name = f"{prefix}ModelForSequenceClassification"
        return _REWARD_MODEL.format(folder=folder, library=library, name=name).rstrip()
    has_template = (model / "chat_template.jinja").is_file()
    code = _FULL_MODEL.format(folder=folder)
    if is_adapter:
        config = json.loads((model / "adapter_config.json").read_text(encoding="utf-8"))
        base = str(config.get("base_model_name_or_path"))
        form = _RESOLVED_ADAPTER if "://" in base else _ADAPTER
        code = form.format(folder=folder, base=base)
    return (code + (_messages(model) + _GENERATE if has_template else "")).rstrip()


def _messages(model: Path) -> str:
    """Return code of a question, with the system message that the model was trained with."""
    file = model / METADATA_FILE
    system = json.loads(file.read_text(encoding="utf-8")).get("system") if file.is_file() else None
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "Who are you?"})
    return f"messages = {json.dumps(messages, ensure_ascii=False)}\n"
