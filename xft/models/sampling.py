"""Sample completions for reinforcement learning: token ids and their log-probabilities.

Why not ``generate`` of transformers: the prompt is computed once for all completions of its group, finished
completions leave the batch, each token comes with its log-probability, and each completion is drawn with its own seed,
so that it depends neither on the other completions of the batch nor on the number of ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xft.models.adapters.fused_lora_forward import training_forward
from xft.models.checks.attention_checks import check_loaded
from xft.models.scoring import eval_mode, split_decoder_and_head, target_log_probs
from xft.models.token_decoding import TokenDecoder, contiguous_head_inputs
from xft.types import IGNORE_INDEX, Batch

MIN_DROPPED = 0.25
"""Fraction of finished completions at which they leave the batch: removing them copies the cache."""


@dataclass
class SampledTokens:
    """A sampled completion.

    Attributes:
        ids: token ids, the stop token included.
        log_probs: log-probability of each sampled token, at the sampling temperature.
        entropies: entropy in nats of the distribution that each sampled token was drawn from.
        stopped: whether the last id is a stop token; ``False`` if the limit was reached.
        sampled: whether each id was sampled, and not given by an environment; empty if all were.
    """

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    stopped: bool = False
    sampled: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class SamplingOptions:
    """Settings of the distribution of tokens. There are no other settings, such as top-k, top-p or penalties.

    Attributes:
        max_new_tokens: maximum number of tokens of a completion.
        temperature: divisor of the logits.
        stop_ids: ids that end a completion.
        pad_token_id: id of padding on the left of shorter prompts.
    """

    max_new_tokens: int
    temperature: float
    stop_ids: Sequence[int]
    pad_token_id: int


def sample_completions(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    options: SamplingOptions,
    any_rank: Callable[[bool], bool] = bool,
) -> list[list[SampledTokens]]:
    """Sample the completions of some prompts in one batch.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        prompts: token ids of each prompt; of equal length if padding on the left changes logits of the model.
        seeds: for each prompt, the 64-bit seed of each completion; the same number of seeds for all prompts.
        options: sampling options.
        any_rank: logical OR over the ranks that share sharded parameters, which all compute the same number of tokens.

    Returns:
        The completions of each prompt.
    """
    completions = [[SampledTokens() for _ in group] for group in seeds]
    uniforms = torch.tensor(
        np.stack([_uniforms(seed, options.max_new_tokens) for group in seeds for seed in group])
    )
    with eval_mode(model), training_forward(model), contiguous_head_inputs(model):
        decoder = TokenDecoder(
            model,
            _last_logits(model, torch.tensor(prompts[:1], device=next(model.parameters()).device)),
            prompts,
            len(seeds[0]),
            options.pad_token_id,
            check_loaded(model).caches,
        )
        logits = decoder.prefill()
        active = [completion for group in completions for completion in group]
        for position in range(options.max_new_tokens):
            ids, log_probs, entropies = _draw(logits, uniforms[:, position], options.temperature)
            for completion, token, log_prob, entropy in zip(
                active, ids.tolist(), log_probs.tolist(), entropies.tolist(), strict=True
            ):
                if not completion.stopped:
                    completion.ids.append(token)
                    completion.log_probs.append(log_prob)
                    completion.entropies.append(entropy)
                    completion.stopped = token in options.stop_ids
            running = [index for index, completion in enumerate(active) if not completion.stopped]
            if position + 1 == options.max_new_tokens or not any_rank(bool(running)):
                break
            if len(running) <= (1 - MIN_DROPPED) * len(active):
                kept = torch.tensor(running or [0])
                active = [active[index] for index in kept.tolist()]
                ids, uniforms = ids[kept.to(ids.device)], uniforms[kept]
                decoder.keep(kept)
            logits = decoder.step(ids)
    return completions


def completion_log_probs(
    model: nn.Module, prompt: Sequence[int], completion: Sequence[int], temperature: float
) -> Tensor:
    """Compute the log-probabilities of a completion in one forward pass, as the trainer does. Collective if sharded.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        prompt: ids of the prompt.
        completion: ids of the completion.
        temperature: divisor of the logits.

    Returns:
        ``(tokens of the completion,)`` in fp32 on the CPU.
    """
    ids = torch.tensor([[*prompt, *completion]], device=next(model.parameters()).device)
    labels = ids.clone()
    labels[:, : len(prompt)] = IGNORE_INDEX
    batch = Batch(ids, labels, torch.arange(ids.shape[1], device=ids.device)[None], torch.ones_like(ids))
    with eval_mode(model), training_forward(model):
        return target_log_probs(model, batch, temperature).float().cpu()


def derive_seed(*parts: int) -> int:
    """Combine integers of up to 64 bits into a 64-bit seed, such as that of a completion."""
    return int(np.random.SeedSequence([part % 2**64 for part in parts]).generate_state(1, np.uint64)[0])


def _uniforms(seed: int, count: int) -> np.ndarray:
    """Return ``(count,)`` random numbers in [0, 1) of the counter-based generator Philox, with the seed as its key."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def _draw(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a token from each row of ``(batch, vocabulary)`` logits by inversion of the distribution function.

    Returns:
        ``(batch,)`` ids, log-probabilities and entropies.
    """
    log_probs = (logits.float() / temperature).log_softmax(dim=-1)
    probs = log_probs.exp()
    # In fp64, since 100,000 small terms are summed.
    cumulative = probs.double().cumsum(dim=-1)
    thresholds = uniforms.to(logits.device)[:, None] * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, thresholds, right=True).clamp(max=logits.shape[-1] - 1)
    chosen = log_probs.gather(1, ids)[:, 0]
    entropies = -(probs * log_probs.clamp(min=torch.finfo(torch.float32).min)).sum(dim=-1)
    return ids[:, 0], chosen, entropies


def _last_logits(model: nn.Module, ids: Tensor) -> Callable[..., Tensor]:
    """Return a function that maps the arguments of a forward call to the logits of the last tokens."""
    halves, whole = split_decoder_and_head(model, ids), model

    def compute(**arguments: Any) -> Tensor:
        if halves is None:
            logits: Tensor = whole(**arguments, logits_to_keep=1).logits[:, -1]
            return logits
        decoder, head = halves
        result: Tensor = head(decoder(**arguments).last_hidden_state[:, -1])
        return result

    return compute
