"""Export: folders that plain ``transformers`` and ``peft`` load, and proof that they are right."""

from xft.export.convert import convert
from xft.export.verify import verify_artifact

__all__ = ["convert", "verify_artifact"]
