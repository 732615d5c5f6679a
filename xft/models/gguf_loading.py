"""Read GGUF files with the reader of transformers, which shares no code with the writer of xft."""

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from xft.errors import ModelError
from xft.models.loading import LoadedModel
from xft.types import Tokenizer
from xft.utils import console


def load_gguf(file: Path, dtype: torch.dtype) -> LoadedModel:
    """Load the dequantized model and the tokenizer of a GGUF file.

    Raises:
        ModelError: the file cannot be read.
    """
    console.silence_progress_bars()
    try:
        with redirect_stderr(io.StringIO()):  # its progress bar has no switch
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{file}: transformers cannot read it ({reason[:300]})", key=str(file), got=reason
        ) from error
    return LoadedModel(cast(PreTrainedModel, model), cast(Tokenizer, tokenizer))
