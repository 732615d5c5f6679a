"""Sampling parameters that the folder of a base model recommends.

``generate`` of transformers takes every parameter that is not given from ``generation_config.json``, such as the
repetition penalty of Qwen2.5. xft generates without them, and saves them for other readers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from transformers import GenerationConfig, GenerationMixin

from xft.models.model_options import without_adapter
from xft.utils import console

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Parameters that apply with ``do_sample`` only."""
_BEAM_SEARCH = ("early_stopping", "length_penalty")
"""Parameters that apply with several ``num_beams`` only."""


@contextmanager
def neutral_generation_config(model: nn.Module) -> Iterator[None]:
    """Remove the generation config of a model, with or without an adapter, during the context.

    ``generate`` then decodes greedily and without penalties, except for the arguments of the call.
    """
    base = without_adapter(model)
    if not isinstance(base, GenerationMixin):
        yield
        return
    recommended, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = recommended


def repair_generation_config(model: nn.Module) -> None:
    """Make the generation config of a loaded model valid, so that the model can be saved.

    transformers refuses to save parameters without effect, which published models contain. Sampling parameters without
    ``do_sample`` enable it; other parameters without effect are removed. A config with other mistakes is dropped.
    """
    if not isinstance(model, GenerationMixin):
        return
    config = model.generation_config
    given = [name for name in _SAMPLING if getattr(config, name, None) is not None]
    if given and config.do_sample is None:
        config.do_sample = True
    unused = [] if config.do_sample else given
    if (config.num_beams or 1) == 1:
        unused = [*unused, *_BEAM_SEARCH]
    for name in unused:
        setattr(config, name, None)
    try:
        config.validate(strict=True)
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        console.info(f"note: the generation config of the base is invalid, and is not saved ({reason})")
        model.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
        )


def write_generation_config(
    model: nn.Module, stop_ids: list[int] | None, pad_token_id: int | None, folder: Path
) -> None:
    """Write ``generation_config.json``: the parameters that the base recommends, and the tokens of this model.

    Args:
        model: a language model, with or without an adapter.
        stop_ids: ids that end an answer; ``None`` keeps those of the base.
        pad_token_id: id of the padding token; ``None`` keeps that of the base.
        folder: an existing folder.
    """
    base = without_adapter(model)
    assert isinstance(base, GenerationMixin)
    config = GenerationConfig.from_dict(base.generation_config.to_dict())
    if stop_ids is not None:
        config.eos_token_id = stop_ids
    if pad_token_id is not None:
        config.pad_token_id = pad_token_id
    config.save_pretrained(folder)
