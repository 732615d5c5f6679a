"""Export to folders that plain ``transformers`` and ``peft`` load, with verification."""

from xft.export.convert import convert
from xft.export.verify import Comparison, verify_saved_model

__all__ = ["Comparison", "convert", "verify_saved_model"]
