"""Ranks: how they start, find each other, exchange data, and detect that one of them has failed."""

from xft.distributed.devices import resolve_device, seed_everything
from xft.distributed.launch import (
    DEFAULT_TIMEOUT_MINUTES,
    broadcast_object,
    read_launcher,
    spawn_local_ranks,
    start_process_group,
)
from xft.distributed.sequence_parallel import (
    all_reduce_sum,
    check_sequence_parallel,
    heads_to_seq,
    padded_length,
    seq_to_heads,
    split_sequence,
)

__all__ = [
    "DEFAULT_TIMEOUT_MINUTES",
    "all_reduce_sum",
    "broadcast_object",
    "check_sequence_parallel",
    "heads_to_seq",
    "padded_length",
    "read_launcher",
    "resolve_device",
    "seed_everything",
    "seq_to_heads",
    "spawn_local_ranks",
    "split_sequence",
    "start_process_group",
]
