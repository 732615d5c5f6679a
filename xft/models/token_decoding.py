"""Compute the logits of next tokens, with a cache where the model has one of transformers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import cast

import torch
from torch import LongTensor, Tensor, nn
from transformers import DynamicCache

from xft.models.model_options import decoder_config, transformers_config, without_adapter

_STATE_CACHE = "cache_params"
_CACHE_NAMES = ("past_key_values", _STATE_CACHE)
"""Names of the cache in forward calls."""


class TokenDecoder:
    """Continues several prompts token by token.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        compute: maps the arguments of a forward call to the ``(batch, vocabulary)`` logits of the last tokens.
        prompts: ids of the prompts.
        repeats: number of continuations of each prompt.
        pad_token_id: id of padding on the left of shorter prompts.
        use_cache: keep the states of earlier tokens; otherwise, and in a model that takes no ``DynamicCache``, all tokens
            are computed in every step.
    """

    def __init__(
        self,
        model: nn.Module,
        compute: Callable[..., Tensor],
        prompts: Sequence[Sequence[int]],
        repeats: int = 1,
        pad_token_id: int = 0,
        use_cache: bool = True,
    ) -> None:
        device = next(model.parameters()).device
        width = max(len(prompt) for prompt in prompts)
        padded = [[pad_token_id] * (width - len(prompt)) + [*prompt] for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._ids = torch.tensor(padded, device=device)
        self._mask = torch.tensor(mask, device=device)
        self._repeats = repeats
        self._compute = compute
        accepted = signature(without_adapter(model).forward).parameters
        name = next((name for name in _CACHE_NAMES if name in accepted), None)
        self._cache: dict[str, DynamicCache] = {}
        if use_cache and name is not None:
            self._cache[name] = DynamicCache(config=decoder_config(transformers_config(model)))

    def prefill(self) -> Tensor:
        """Compute the prompts once, and return ``(continuations, vocabulary)`` logits of their next tokens."""
        logits = self._forward(self._ids)
        if self._repeats == 1:
            return logits
        rows = torch.arange(len(logits), device=logits.device).repeat_interleave(self._repeats)
        self.keep(rows)
        return logits[rows]

    def step(self, ids: Tensor) -> Tensor:
        """Append ``(batch,)`` tokens, and return ``(batch, vocabulary)`` logits of the next ones."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        self._ids = torch.cat([self._ids, ids[:, None]], dim=1)
        return self._forward(self._ids[:, -1:] if self._cache else self._ids)

    def keep(self, rows: Tensor) -> None:
        """Keep some rows of the batch, in the given order."""
        rows = rows.to(self._mask.device)
        self._mask, self._ids = self._mask[rows], self._ids[rows]
        for cache in self._cache.values():
            # Unlike batch_select_indices, it knows recurrent states too.
            cache.reorder_cache(cast(LongTensor, rows))

    def _forward(self, ids: Tensor) -> Tensor:
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        # A pure state-space model multiplies the given tokens by the mask; new ones are no padding.
        masked = ids.shape[1] > 1 or _STATE_CACHE not in self._cache
        return self._compute(
            input_ids=ids,
            attention_mask=self._mask if masked else None,
            position_ids=positions[:, -ids.shape[1] :],
            use_cache=bool(self._cache),
            **self._cache,
        )


@contextmanager
def contiguous_head_inputs(model: nn.Module) -> Iterator[None]:
    """Pass contiguous states to the head inside the context.

    Why: the last states of several prompts are a slice, and a product with a slice copies the matrix of the head for each
    prompt. Measured in bf16 on a CPU: two thirds of the time to the first token of 32 prompts.
    """
    head = without_adapter(model).get_output_embeddings()  # type: ignore[operator]
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
