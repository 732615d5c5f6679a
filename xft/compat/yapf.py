"""Import yapf, which MMEngine imports, even if its cache is corrupt."""

import pickle
from importlib import import_module
from pathlib import Path


def import_yapf(tries: int = 20) -> None:
    """Import yapf, which MMEngine imports, and mend its cache where half a file lies there.

    yapf keeps its grammars as pickles in the user's cache, and puts a new one in its place before all of it is
    written (yapf 0.43, google/yapf#1164): a process that starts at that moment, such as another rank of the first
    run after an installation, cannot read it, and after a kill or on a full disk no process can.

    Raises:
        EOFError, pickle.UnpicklingError: the cache could not be mended in so many tries.
    """
    for left in reversed(range(tries)):
        try:
            import_module("yapf")
        except (EOFError, pickle.UnpicklingError):
            if not left:
                raise
            # yapf has imported it already.
            from platformdirs import user_cache_dir

            for each in Path(user_cache_dir("YAPF", "Google")).rglob("*.pickle"):
                each.unlink(missing_ok=True)
        else:
            return
