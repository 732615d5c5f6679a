"""The engine: one place puts everything together, trains it, and keeps it."""

from xft.machine import hidden


def _import_mmengine() -> None:
    """Import MMEngine's strategies without DeepSpeed and bitsandbytes, which they import wherever they are
    installed, and which take a second or two. Ours import them when they are asked for."""
    # It looks once whether DeepSpeed is there, and must see that it is.
    import transformers.integrations.deepspeed  # noqa: F401

    with hidden("deepspeed", "bitsandbytes"):
        import mmengine._strategy  # noqa: F401


_import_mmengine()

from xft.engine import hooks, loggers, optimizers, strategies  # noqa: E402

__all__ = ["hooks", "loggers", "optimizers", "strategies"]
