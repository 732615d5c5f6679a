"""Keep measurements of attention in the cache folder of the user, for later processes."""

import json
import os
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
import transformers

import xft.models.attention
from xft.models.checks.measure import AttentionCheck
from xft.utils.paths import cache_dir


def load_check(config: str, attention: str) -> AttentionCheck | None:
    """Return a stored measurement; ``None`` if there is none, or the file is not readable.

    Args:
        config: class and config of the model as text.
        attention: attention implementation.
    """
    try:
        return AttentionCheck.from_json(json.loads(_file(config, attention).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def store_check(config: str, attention: str, check: AttentionCheck) -> None:
    """Store a measurement. A cache folder that cannot be written is no error."""
    path = _file(config, attention)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(check.to_json()), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return


def _file(config: str, attention: str) -> Path:
    key = sha256("\0".join((config, attention, _versions())).encode()).hexdigest()
    return cache_dir() / "attention_checks" / f"{key[:32]}.json"


@cache
def _versions() -> str:
    """Return the versions of the libraries, and a digest of the code of xft that is measured and that measures."""
    room = Path(xft.models.attention.__file__).parent
    files = (
        *sorted(room.glob("checks/*.py")),
        *sorted(room.glob("attention*.py")),
        room / "segments.py",
        room / "token_decoding.py",
    )
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{torch.__version__} {transformers.__version__} {digest}"
