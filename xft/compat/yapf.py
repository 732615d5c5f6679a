"""Import yapf, which MMEngine imports, even if its cache is corrupt."""

import pickle
from importlib import import_module
from pathlib import Path


def import_yapf(tries: int = 20) -> None:
    """Import yapf, which MMEngine imports, and remove corrupt files of its cache.

    yapf pickles its grammars in the user's cache and moves a file into place before it is complete (yapf 0.43,
    google/yapf#1164). A process that starts at that moment, such as another rank of the first run after an
    installation, cannot read it; after a kill or on a full disk, no process can.

    Args:
        tries: maximum number of attempts.

    Raises:
        EOFError, pickle.UnpicklingError: The cache is still corrupt after ``tries`` attempts.
    """
    for left in reversed(range(tries)):
        try:
            import_module("yapf")
        except (EOFError, pickle.UnpicklingError):
            if not left:
                raise
            # yapf depends on platformdirs, so it is installed.
            from platformdirs import user_cache_dir

            for file in Path(user_cache_dir("YAPF", "Google")).rglob("*.pickle"):
                file.unlink(missing_ok=True)
        else:
            return
