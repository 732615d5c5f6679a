"""xft: fine-tune language models from Python config files.

docs/architecture.md lists the subpackages and the direction of imports.
"""

from xft.version import __version__

__all__ = ["__version__"]
