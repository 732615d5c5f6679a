"""Export to GGUF."""

from xft.export.gguf.architectures import DTYPES, MODEL_FILE, check_supported
from xft.export.gguf.check import check_gguf
from xft.export.gguf.vocab import read_vocabulary
from xft.export.gguf.writer import write_gguf

__all__ = ["DTYPES", "MODEL_FILE", "check_gguf", "check_supported", "read_vocabulary", "write_gguf"]
