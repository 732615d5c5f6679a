"""xft: fine-tune language models from Python config files.

Rooms, and the direction of imports (a room may import only from floors below its own; a
test reads the imports and says so)::

    Level 7   tools  configs  cli
    Level 6   engine
    Level 5   evaluation  export  chat
    Level 4   objectives
    Level 3   models
    Level 2   data  losses  kernels  pages
    Level 1   templates  config  doctor
    Level 0   types  errors  registry  console  paths  machine  words
"""

from xft.version import __version__

__all__ = ["__version__"]
