"""Data: read rows, map them to conversations, encode them, pack them and lay them out in batches.

Modules are imported when their names are used: rows are read and checked without torch.
"""

from typing import TYPE_CHECKING

from xft.utils.lazy import lazy_names

if TYPE_CHECKING:
    from xft.data import formats
    from xft.data.batching.collate import Collator, collate_padded, collate_padding_free
    from xft.data.batching.sampler import EpochBatchSampler
    from xft.data.config.base import DatasetConfig, PreparedData
    from xft.data.config.kinds import (
        InstructionData,
        PreferenceData,
        PromptData,
        TextData,
        UnpairedPreferenceData,
    )
    from xft.data.config.mixture import Mixture
    from xft.data.report import DataReport
    from xft.data.store.sample_view import SampleView
else:
    _KINDS = ("InstructionData", "PreferenceData", "PromptData", "TextData", "UnpairedPreferenceData")
    _COLLATORS = ("Collator", "collate_padded", "collate_padding_free")
    __getattr__ = lazy_names(
        __name__,
        {
            **dict.fromkeys(_COLLATORS, "xft.data.batching.collate"),
            **dict.fromkeys(("DatasetConfig", "PreparedData"), "xft.data.config.base"),
            **dict.fromkeys(_KINDS, "xft.data.config.kinds"),
            "EpochBatchSampler": "xft.data.batching.sampler",
            "Mixture": "xft.data.config.mixture",
            "DataReport": "xft.data.report",
            "SampleView": "xft.data.store.sample_view",
        },
    )

__all__ = [
    "Collator",
    "DataReport",
    "DatasetConfig",
    "EpochBatchSampler",
    "InstructionData",
    "Mixture",
    "PreferenceData",
    "PreparedData",
    "PromptData",
    "SampleView",
    "TextData",
    "UnpairedPreferenceData",
    "collate_padded",
    "collate_padding_free",
    "formats",
]
