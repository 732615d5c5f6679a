"""Record what the routers of a mixture-of-experts model decide in a training step.

Hooks read the logits of the routers and the experts of each token. They work below any objective, adapter and wrapper, and
the forward pass of the model is the same with and without them.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.utils.output_capturing import OutputRecorder

from xft.distributed import all_reduce_sum
from xft.errors import ConfigError
from xft.losses.load_balancing import expert_counts, load_balancing_loss
from xft.models.experts import is_fused, num_fused
from xft.models.families import optional_field
from xft.models.model_options import model_options, transformers_config, without_adapter
from xft.types import Batch, LossOutput

AUX_LOSS, MAX_LOAD = "aux_loss", "moe/max_load"


@dataclass
class Record:
    """What the routers decided in one forward pass.

    Attributes:
        logits: ``(tokens, experts)`` of each layer, for the auxiliary loss.
        selected: ``(tokens, top_k)`` experts of each layer, and the number of experts.
    """

    logits: list[Tensor] = field(default_factory=list)
    selected: list[tuple[Tensor, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Routing:
    """Routers and experts of a model, and the coefficient of its auxiliary loss.

    Attributes:
        routers: modules whose output holds the logits, and the index of the logits in it.
        experts: fused experts, and their number.
        top_k: number of experts of a token.
        coefficient: factor of the auxiliary loss, 0 to log it only; ``None`` if the family has none.
    """

    routers: list[tuple[nn.Module, int]]
    experts: list[tuple[nn.Module, int]]
    top_k: int = 0
    coefficient: float | None = None

    @contextmanager
    def record(self) -> Iterator[Record]:
        """Record forward passes with gradients, and no others, such as those of a reference model."""
        record = Record()

        def keep_logits(index: int) -> Any:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                if torch.is_grad_enabled():
                    record.logits.append(output[index] if isinstance(output, tuple) else output)

            return hook

        def keep_selected(num_experts: int) -> Any:
            def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
                given = [*arguments, *keywords.values()]
                indices = [
                    value for value in given if isinstance(value, Tensor) and value.dtype == torch.long
                ]
                if torch.is_grad_enabled() and indices and indices[0].ndim == 2:
                    record.selected.append((indices[0], num_experts))

            return hook

        with ExitStack() as stack:
            for module, index in self.routers:
                stack.callback(module.register_forward_hook(keep_logits(index)).remove)
            for module, size in self.experts:
                stack.callback(
                    module.register_forward_pre_hook(keep_selected(size), with_kwargs=True).remove
                )
            yield record

    def add_auxiliary_loss(self, output: LossOutput, record: Record, batch: Batch) -> LossOutput:
        """Add the auxiliary loss to the output of an objective, and metrics.

        The loss of a batch is weighted by its number of targets, as the main loss is: with micro-batches and ranks it
        is their mean, weighted by targets.

        Args:
            output: of the objective.
            record: of the forward pass.
            batch: of the forward pass.
        """
        metrics, loss = dict(output.metrics), output.loss_sum
        mask = _token_mask(batch, record)
        if record.logits and self.coefficient is not None:
            logits = [layer.flatten(0, -2) for layer in record.logits]
            aux = load_balancing_loss(
                logits, self.top_k, mask, lambda tensor: all_reduce_sum(tensor, batch.sequence)
            )
            metrics[AUX_LOSS] = aux.detach() * output.num_targets
            if self.coefficient:
                loss = loss + self.coefficient * output.num_targets * aux.to(loss.device)
        if record.selected:
            counts = torch.stack([expert_counts(index, size, mask) for index, size in record.selected])
            counts = all_reduce_sum(counts, batch.sequence)
            busiest = counts.amax(dim=1) / counts.sum(dim=1).clamp(min=1)
            metrics[MAX_LOAD] = busiest.mean() * output.num_targets
        return replace(output, loss_sum=loss, metrics=metrics)


def _token_mask(batch: Batch, record: Record) -> Tensor | None:
    """Return ``(tokens,)``, 0 for padding; ``None`` without padding.

    The end of a flat row may be padded for the kernels, or for ranks that share it.
    """
    if batch.attention_mask is not None:
        return batch.attention_mask.flatten().float()
    rows = [layer.flatten(0, -2) for layer in record.logits] or [layer for layer, _ in record.selected]
    if not rows:
        return None
    count, size = len(rows[0]), batch.input_ids.numel()
    begin = 0 if batch.sequence is None else batch.sequence.rank * count
    if begin + count <= size:
        return None
    return (torch.arange(begin, begin + count, device=rows[0].device) < size).float()


def find_routing(model: nn.Module) -> Routing | None:
    """Return the routers and experts of a model; ``None`` for a dense model.

    Args:
        model: of transformers, with or without an adapter.

    Raises:
        ConfigError: a coefficient is configured for a family without an auxiliary loss.
    """
    base = without_adapter(model)
    experts = [(module, num_fused(module)) for module in base.modules() if is_fused(module)]
    top_k, published = _auxiliary_loss(base)
    requested = model_options(base).router_aux_loss_coef
    if requested is not None and published is None:
        raise ConfigError(
            key="model.router_aux_loss_coef",
            got=requested,
            expected=f"None, since models of type {transformers_config(base).model_type} have no auxiliary loss",
        )
    # transformers adds the loss for models whose config asks for the logits of routers, which few do.
    default = published if optional_field(_text_config(base), "output_router_logits") else 0.0
    coefficient = None if published is None else default if requested is None else requested
    routers = list(_routers(base)) if coefficient is not None else []
    return Routing(routers, experts, top_k, coefficient) if experts or routers else None


def describe_auxiliary_loss(model: nn.Module) -> str:
    """Return how the load of experts is balanced in training; empty for a dense model."""
    routing = find_routing(model)
    if routing is None:
        return ""
    if routing.coefficient is None:
        return "no auxiliary loss in this family"
    if not routing.coefficient:
        return "aux loss not added (model.router_aux_loss_coef adds it)"
    return f"aux loss × {routing.coefficient:g}"


def _text_config(model: nn.Module) -> PretrainedConfig:
    return transformers_config(model).get_text_config()


def _auxiliary_loss(model: nn.Module) -> tuple[int, float | None]:
    """Return ``top_k``, and the coefficient of the model's config if its family has an auxiliary loss."""
    config = _text_config(model)
    if not hasattr(sys.modules[type(model).__module__], "load_balancing_loss_func"):
        return 0, None
    names = ("num_experts_per_tok", "moe_k", "moe_top_k")
    fields: Any = optional_field(config, "ffn_config") or config  # DBRX
    top_k = next((optional_field(fields, name) for name in names if optional_field(fields, name)), None)
    coefficients = ("router_aux_loss_coef", "aux_loss_coef", "moe_loss_weight")
    values = [optional_field(fields, name) for name in coefficients]
    coefficient = next((float(value) for value in values if value is not None), None)
    return (0, None) if top_k is None else (int(top_k), coefficient)


def _routers(model: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Yield the modules from which transformers records ``router_logits``."""
    recorded: Any = getattr(model, "_can_record_outputs", None) or {}
    given = recorded.get("router_logits", [])
    for recorder in given if isinstance(given, list) else [given]:
        assert isinstance(recorder, OutputRecorder)
        for name, module in model.named_modules():
            is_named = recorder.layer_name is None or recorder.layer_name in name
            if isinstance(module, recorder.target_class) and is_named:
                yield module, recorder.index
