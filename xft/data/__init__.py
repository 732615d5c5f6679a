"""Data: rows are read, mapped to conversations, encoded, packed and laid out in batches."""

from xft.data import formats
from xft.data.base import Prepared, digest
from xft.data.collate import collate_flat, collate_padded
from xft.data.dataset import InstructionData, TextData
from xft.data.ledger import Ledger
from xft.data.sampler import BatchPlan

__all__ = [
    "BatchPlan",
    "InstructionData",
    "Ledger",
    "Prepared",
    "TextData",
    "collate_flat",
    "collate_padded",
    "digest",
    "formats",
]
