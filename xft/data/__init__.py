"""Data: read rows, map them to conversations, encode them, pack them and lay them out in batches."""

from xft.data import formats
from xft.data.batching.collate import Collator, collate_padded, collate_padding_free
from xft.data.batching.sampler import EpochBatchSampler
from xft.data.config.base import DatasetConfig, PreparedData
from xft.data.config.kinds import InstructionData, PreferenceData, TextData, UnpairedPreferenceData
from xft.data.config.mixture import Mixture
from xft.data.report import DataReport
from xft.data.store.token_store import SampleView

__all__ = [
    "Collator",
    "DataReport",
    "DatasetConfig",
    "EpochBatchSampler",
    "InstructionData",
    "Mixture",
    "PreferenceData",
    "PreparedData",
    "SampleView",
    "TextData",
    "UnpairedPreferenceData",
    "collate_padded",
    "collate_padding_free",
    "formats",
]
