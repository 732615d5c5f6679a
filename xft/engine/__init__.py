"""The engine: one place puts everything together, trains it, and keeps it."""

import sys


def _import_mmengine() -> None:
    """Import MMEngine's strategies without DeepSpeed, which they import wherever it is installed, and
    which takes half a second and speaks. Ours imports it when it is asked for."""
    if "deepspeed" in sys.modules:
        return
    # It looks once whether DeepSpeed is there, and must see that it is.
    import transformers.integrations.deepspeed  # noqa: F401

    sys.modules["deepspeed"] = None  # type: ignore[assignment]
    try:
        import mmengine._strategy  # noqa: F401
    finally:
        del sys.modules["deepspeed"]


_import_mmengine()

from xft.engine import hooks, loggers, optimizers, strategies  # noqa: E402

__all__ = ["hooks", "loggers", "optimizers", "strategies"]
