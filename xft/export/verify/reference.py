"""Record the outputs of the live model that a saved copy must reproduce."""

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime

from peft import PeftModel
from torch import Tensor, nn

from xft.export.verify.adapter_norms import adapter_norms
from xft.export.verify.worker import compute_logits, probe_texts
from xft.models.generation import stop_ids
from xft.models.param_shapes import SummonFullParams
from xft.models.reward_head import is_reward_model
from xft.templates import BoundTemplate
from xft.types import Tokenizer


@dataclass(frozen=True)
class ReferenceOutputs:
    """Outputs of the live model on the probe texts.

    Attributes:
        texts: result of ``probe_texts``.
        input_ids: token ids of each text.
        stop_ids: ids of the stop tokens; ``None`` without a template and for reward models.
        adapter_norms: ``‖ΔW‖`` by layer.
        logits: result of ``compute_logits``.
        now: date used to render ``texts``, in ISO 8601; ``None`` without a template.
        scored: whether the model is a reward model.
    """

    texts: list[str]
    input_ids: list[list[int]]
    stop_ids: list[int] | None
    adapter_norms: dict[str, float]
    logits: Tensor
    now: str | None = None
    scored: bool = False


def reference_outputs(
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    summon_full_params: SummonFullParams = nullcontext,
) -> ReferenceOutputs:
    """Run the live model on the probe texts.

    Args:
        live: the model.
        tokenizer: its tokenizer.
        template: its chat template; ``None`` for raw text.
        summon_full_params: context manager that gathers sharded parameters. With sharded
            parameters this function is a collective operation.
    """
    scored = is_reward_model(live)
    now = datetime.now()
    # The live template renders the date of the start of the run; the saved one renders today's.
    current = None if template is None else BoundTemplate(tokenizer, template.source, now)
    texts = probe_texts(current, scored)
    input_ids = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    # A full model has no adapter, and all of its parameters together would not fit on a rank.
    adapted = isinstance(live, PeftModel)
    with summon_full_params([param for param in live.parameters() if adapted and param.requires_grad]):
        norms = adapter_norms(live)
    return ReferenceOutputs(
        texts,
        input_ids,
        None if template is None or scored else stop_ids(tokenizer, template),
        norms,
        compute_logits(live, input_ids),
        None if template is None else now.isoformat(),
        scored,
    )
