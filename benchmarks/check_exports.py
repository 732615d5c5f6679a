"""Open every kind of export with transformers 4, and with the readers that llama.cpp's converter and vLLM use.

    make compat
    python benchmarks/check_exports.py --transformers '4.57.*'        # another version: 4.56.2
    python benchmarks/check_exports.py --python /tmp/venv/bin/python  # an environment that exists

A tiny model is exported for each tokenizer (the bundled one, and those in ../shared/tokenizers): complete, as an adapter,
and merged. A Python with the other version of transformers loads the folders and compares token ids, special tokens,
chat template, stop tokens and logits with those of this process. The environment is created with pip in a temporary
folder; it has a transformers of its own and takes torch and peft from this one. Exits with 1 if anything differs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, LlamaTokenizer

from xft.export import convert
from xft.export.vllm import vllm_note
from xft.models import CausalLMConfig, LoRA, ModelMetadata, load_saved_model, save_model
from xft.models.loading import load_tokenizer
from xft.models.reward_head import LOADERS
from xft.templates import SOURCES, BoundTemplate

TOKENIZERS = Path(__file__).resolve().parents[2] / "shared" / "tokenizers"
TEXTS = (
    "Hello  world\n\n\ttab 中文 🙂 don't I'LL <|im_start|>user\nhi<|im_end|> 1234567",
    " leading space",
    "<s>x</s> a <|eot_id|> b <|endoftext|>",
    "",
)
ROPE: dict[str, dict[str, Any]] = {
    "qwen3": {"rope_type": "default", "rope_theta": 1e6},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "internlm2": {"rope_type": "dynamic", "rope_theta": 5e4, "factor": 2.0},
    "smollm2": {"rope_type": "default", "rope_theta": 1e5},
}
"""Rotary embeddings that differ from the defaults of each family, as those of published models do."""

READER = """\
import json, sys
from pathlib import Path
import torch, transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

failed = 0
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if (path / "expected.json").is_file()):
    expected = json.loads((folder / "expected.json").read_text())
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        actual = {
            "ids": [tokenizer(text, add_special_tokens=flag)["input_ids"] for text in expected["texts"] for flag in (True, False)],
            "special": sorted(tokenizer.all_special_ids),
            "template": tokenizer.chat_template,
            "stops": GenerationConfig.from_pretrained(folder).eos_token_id,
        }
        wrong = [name for name, value in actual.items() if value != expected[name]]
        base = expected["base"]
        model = AutoModelForCausalLM.from_pretrained(base or folder, torch_dtype=torch.float32)
        if base:
            model = PeftModel.from_pretrained(model, folder)
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([expected["input"]])).logits
        reference = load_file(folder / "expected.safetensors")["logits"]
        distance = float((logits - reference).abs().max() / reference.abs().max())
        wrong += [f"logits by {distance:.1e}"] if distance > 1e-4 else []
        result = "differs: " + ", ".join(wrong) if wrong else f"ok ({type(tokenizer).__name__}, logits within {distance:.0e})"
    except Exception as error:
        result = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    failed += not result.startswith("ok")
    print(f"transformers {transformers.__version__}  {folder.name:<20} {result}", flush=True)
sys.exit(bool(failed))
"""


def tokenizers(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tokenizers of this machine by name."""
    yield "smollm2", load_tokenizer("xft://smollm2-135m-instruct")
    for source in sorted(TOKENIZERS.iterdir()) if TOKENIZERS.is_dir() else []:
        if (source / "tokenizer.json").is_file():
            yield source.name, load_tokenizer(str(source))
        elif (source / "tokenizer.model").is_file():
            copy = folder / f"{source.name}-tokenizer"
            copy.mkdir()
            shutil.copy(source / "tokenizer.model", copy)
            tokenizer = LlamaTokenizer.from_pretrained(copy, add_prefix_space=False)
            tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
            tokenizer.pad_token = tokenizer.eos_token
            yield source.name, tokenizer


def write_exports(name: str, tokenizer: Any, work: Path, out: Path) -> None:
    """Export a tiny model with this tokenizer in all ways."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3" if name == "qwen3" else "llama",
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters=ROPE.get(name, ROPE["smollm2"]),
    )
    model = LOADERS["causal_lm"].from_config(config)
    model.generation_config.temperature = 0.6  # without do_sample, as in published models
    template = BoundTemplate(tokenizer, tokenizer.chat_template or SOURCES["chatml"])
    source, base = work / f"{name}-source", out / f"{name}-full"
    source.mkdir()
    _save_plain(model, source)
    tokenizer.chat_template = template.source
    tokenizer.save_pretrained(source)
    convert(str(source), str(base), dtype="float32", subprocess=False)
    loader = CausalLMConfig(str(base), dtype="float32")
    read = loader.load_tokenizer()
    adapted = loader.load(read, torch.device("cpu"), LoRA(r=4)).model
    for param in adapted.parameters():
        param.data += 0.1 * torch.randn_like(param) if param.requires_grad else 0.0
    trained = work / f"{name}-trained"
    trained.mkdir()
    save_model(adapted, read, template, ModelMetadata(str(base), "float32"), trained)
    convert(str(trained), str(out / f"{name}-adapter"), subprocess=False)
    convert(str(trained), str(out / f"{name}-merged"), merged=True, subprocess=False)


def _save_plain(model: Any, folder: Path) -> None:
    """Save as the base of a run: the generation config would be refused by ``save_pretrained``."""
    recommended, model.generation_config = model.generation_config, type(model.generation_config)()
    model.save_pretrained(folder)
    recommended.to_json_file(folder / "generation_config.json")


def write_expected(folder: Path, base: Path | None) -> None:
    """Write what a reader must get from an export."""
    loaded = load_saved_model(str(folder))
    tokenizer: Any = loaded.tokenizer
    ids = tokenizer(TEXTS[0] * 3, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = loaded.model.eval()(input_ids=torch.tensor([ids])).logits
    save_file({"logits": logits.float()}, folder / "expected.safetensors")
    expected = {
        "texts": TEXTS,
        "ids": [
            tokenizer(text, add_special_tokens=flag)["input_ids"]
            for text in TEXTS
            for flag in (True, False)
        ],
        "special": sorted(tokenizer.all_special_ids),
        "template": tokenizer.chat_template,
        "stops": json.loads((folder / "generation_config.json").read_text())["eos_token_id"],
        "input": ids,
        "base": None if base is None else str(base),
    }
    (folder / "expected.json").write_text(json.dumps(expected))


def check_gguf_reader(folder: Path) -> bool:
    """Read special tokens and template as llama.cpp's converter does."""
    expected = json.loads((folder / "expected.json").read_text())
    vocabulary = gguf.SpecialVocab(folder, load_merges=True)
    eos = vocabulary.special_token_ids.get("eos")
    ok = vocabulary.chat_template == expected["template"] and eos in expected["stops"]
    print(f"gguf {'':<16}{folder.name:<20} {'ok' if ok else f'differs: eos {eos}, template'}")
    return ok


def check_vllm_rules(folder: Path) -> bool:
    """Check the adapter by the rules of vLLM's loader: its config, and the names of its weights."""
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    odd = [name for name in names if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    note = vllm_note(folder)
    ok = note is None and not odd and all(name.startswith("base_model.model.") for name in names)
    print(f"vLLM's rules        {folder.name:<20} {'ok' if ok else f'{note} {odd[:1]}'}")
    return ok


def create_environment(folder: Path, version: str) -> str:
    """Create an environment with another transformers, which takes other libraries from this one; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    packages = [f"transformers=={version}", "huggingface_hub<1.0", "tokenizers>=0.22,<0.23"]
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--target", site, *packages], check=True
    )
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def main() -> int:
    """Run all checks and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transformers", default="4.57.*", metavar="VERSION")
    parser.add_argument(
        "--python", metavar="FILE", help="a Python with another transformers, in place of a new one"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xft-exports-") as name:
        work, out = Path(name), Path(name) / "exports"
        out.mkdir()
        for tokenizer_name, tokenizer in tokenizers(work):
            write_exports(tokenizer_name, tokenizer, work, out)
        ok = True
        for folder in sorted(out.iterdir()):
            is_adapter = folder.name.endswith("-adapter")
            base = folder.with_name(folder.name.replace("-adapter", "-full")) if is_adapter else None
            write_expected(folder, base)
            ok &= check_gguf_reader(folder)
            ok &= not is_adapter or check_vllm_rules(folder)
        (work / "reader.py").write_text(READER, encoding="utf-8")
        other = arguments.python or create_environment(work / "environment", arguments.transformers)
        for python in (sys.executable, other):
            ok &= subprocess.run([python, work / "reader.py", out], check=False).returncode == 0
    print("all exports are read alike" if ok else "some exports are read differently")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
