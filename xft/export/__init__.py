"""Export: folders that plain ``transformers`` and ``peft`` load, and proof that they are right."""

from xft.export.convert import convert
from xft.export.verify import Comparison, verify_artifact

__all__ = ["Comparison", "convert", "verify_artifact"]
