"""Data: rows are read, mapped to conversations, encoded, packed and laid out in batches."""

from xft.data import formats
from xft.data.collate import Collator, collate_padded, collate_padding_free
from xft.data.dataset_config import DataSet, Prepared
from xft.data.dataset_kinds import InstructionData, PreferenceData, TextData, UnpairedPreferenceData
from xft.data.mixture import Mixture
from xft.data.report import Ledger
from xft.data.sampler import BatchPlan
from xft.data.store import Samples

__all__ = [
    "BatchPlan",
    "Collator",
    "DataSet",
    "InstructionData",
    "Ledger",
    "Mixture",
    "PreferenceData",
    "Prepared",
    "Samples",
    "TextData",
    "UnpairedPreferenceData",
    "collate_padded",
    "collate_padding_free",
    "formats",
]
