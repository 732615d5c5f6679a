"""Sequence parallelism: ranks that share the tokens of a batch out between them."""

from xft.distributed.sequence_parallel import (
    add_up,
    check_sequence_parallel,
    share_out,
    to_heads,
    to_tokens,
    whole_length,
)

__all__ = ["add_up", "check_sequence_parallel", "share_out", "to_heads", "to_tokens", "whole_length"]
