"""Reload a saved model and compare it with the live one."""

from pathlib import Path

import torch
from torch import nn

from xft.errors import CheckpointError
from xft.export.verify.adapter_norms import check_adapter_nonzero
from xft.export.verify.comparison import Comparison, compare
from xft.export.verify.launcher import VerificationSkipped, VerifySubprocess
from xft.export.verify.reference import ReferenceOutputs, reference_outputs
from xft.export.verify.worker import VerifyRequest, VerifyResult, inspect_saved_model
from xft.models.model_options import transformers_config
from xft.models.param_shapes import full_nbytes
from xft.templates import BoundTemplate
from xft.types import Tokenizer

SAME_DEVICE_TOLERANCE = 1e-3
"""Largest difference of logits on one type of device, as a fraction of the largest logit. The same weights
in the same dtype give the same logits; a reload may select another kernel and another number of threads."""
OTHER_DEVICE_TOLERANCE = 5e-2
"""The same if the reloaded model is on a CPU and the live one is not: 16-bit products round differently.
The change that an adapter makes may be smaller, so adapter norms are compared too."""
NORM_TOLERANCE = 1e-4
"""Largest relative difference of a layer's ``‖ΔW‖``."""
DEFAULT_TIMEOUT = 1800.0
"""Seconds that the subprocess may take."""


def make_request(
    folder: Path, reference: ReferenceOutputs, device: torch.device | str, trust_remote_code: bool = False
) -> VerifyRequest:
    """Return the request whose result ``check_result`` can compare with ``reference``."""
    return VerifyRequest(
        str(folder.absolute()), reference.input_ids, reference.now, str(device), trust_remote_code
    )


def check_result(
    result: VerifyResult,
    reference: ReferenceOutputs,
    name: str,
    tolerance: float = SAME_DEVICE_TOLERANCE,
    require_nonzero: bool = True,
) -> Comparison:
    """Compare the outputs of a reloaded model with those of the live one.

    Args:
        result: outputs of the reloaded model.
        reference: outputs of the live model.
        name: of the saved model, for messages.
        tolerance: largest difference of logits, as a fraction of the largest logit.
        require_nonzero: refuse an adapter that is all zeros; used after the last step.

    Raises:
        CheckpointError: the outputs differ, or the adapter is zero.
    """
    if result.texts != reference.texts:
        raise CheckpointError(
            key=f"{name}: text rendered by the chat template",
            got=result.texts[0],
            expected="the text rendered by the live model",
        )
    if result.input_ids != reference.input_ids:
        raise CheckpointError(
            key=f"{name}: token ids of the tokenizer",
            got=result.input_ids[0][:8],
            expected=f"those of the live model, {reference.input_ids[0][:8]}",
        )
    if reference.stop_ids is not None and result.stop_ids != reference.stop_ids:
        raise CheckpointError(
            key=f"{name}: stop tokens of generation_config.json",
            got=result.stop_ids,
            expected=f"those of the live model, {reference.stop_ids}",
        )
    _check_adapter_norms(result, reference, name, require_nonzero)
    comparison = compare(
        reference.logits,
        result.logits,
        f"{name}: the saved model",
        result.adapter_norms,
        reference.scored,
    )
    if not comparison.max_difference <= tolerance * comparison.max_logit:
        raise CheckpointError(
            f"{name}: the saved model differs from the live model: {comparison}. Do not use it",
            key=f"{name}: {comparison.noun} of the saved model",
            got=comparison.max_difference,
        )
    return comparison


def _check_adapter_norms(
    result: VerifyResult, reference: ReferenceOutputs, name: str, require_nonzero: bool
) -> None:
    for layer in sorted({*result.adapter_norms, *reference.adapter_norms}):
        live, saved = reference.adapter_norms.get(layer), result.adapter_norms.get(layer)
        if live is None or saved is None or abs(live - saved) > NORM_TOLERANCE * live:
            raise CheckpointError(
                key=f"{name}: ‖ΔW‖ of layer {layer}",
                got=saved,
                expected=f"that of the live model, {live}",
                fix="do not use it",
            )
    if require_nonzero:
        check_adapter_nonzero(result.adapter_norms, result.trains_other_params, name)


def verify_saved_model(
    folder: Path,
    live: nn.Module,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    device: torch.device,
    tolerance: float | None = None,
    trust_remote_code: bool = False,
    subprocess: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    reference: ReferenceOutputs | None = None,
) -> Comparison:
    """Compare a saved model with the live one: tokens, template, stop tokens, adapter and logits.

    Args:
        folder: of the saved model.
        live: the model that was saved.
        tokenizer: its tokenizer.
        template: its chat template; ``None`` for raw text.
        device: of the live model.
        tolerance: see ``check_result``; chosen by the devices if ``None``.
        trust_remote_code: as the live model was loaded.
        subprocess: load in a new process, which shares nothing with this one except the files. It
            takes some seconds more.
        timeout: seconds that the subprocess may take.
        reference: outputs of the live model, if already computed.

    Raises:
        CheckpointError: the models differ, or the saved model cannot be loaded.
        VerificationSkipped: the subprocess was killed or took too long.
    """
    if reference is None:
        reference = reference_outputs(live, tokenizer, template)
    where = verification_device(live, device) if subprocess else device
    request = make_request(folder, reference, where, trust_remote_code)
    result = VerifySubprocess(request).result(timeout) if subprocess else inspect_in_process(request)
    if tolerance is None:
        tolerance = logit_tolerance(where, device)
    return check_result(result, reference, str(folder), tolerance)


def inspect_in_process(request: VerifyRequest) -> VerifyResult:
    """Load a saved model in this process and restore the RNG state afterwards.

    A new adapter draws initial weights before the saved ones replace them.
    """
    with torch.random.fork_rng():
        return inspect_saved_model(request)


def logit_tolerance(device: torch.device | str, live: torch.device) -> float:
    """Return the tolerance between logits of ``device`` and of the live model's device."""
    return SAME_DEVICE_TOLERANCE if torch.device(device).type == live.type else OTHER_DEVICE_TOLERANCE


def verification_device(live: nn.Module, device: torch.device, headroom: float = 1.3) -> torch.device:
    """Choose the device of a second model: the live model's if it has free memory, else the CPU.

    Args:
        live: the model.
        device: of the live model.
        headroom: required free memory as a multiple of the model's bytes.

    Raises:
        VerificationSkipped: memory is short, and the model's attention has no CPU implementation.
    """
    if device.type != "cuda":
        return device
    size = sum(map(full_nbytes, live.parameters())) + sum(buffer.nbytes for buffer in live.buffers())
    free, _ = torch.cuda.mem_get_info(device)
    if free > headroom * size + 2**30:
        return device
    if "flash" in str(transformers_config(live)._attn_implementation):
        raise VerificationSkipped(
            "the saved model cannot be verified: the GPU has no memory for a second model, and flash "
            "attention does not run on a CPU"
        )
    return torch.device("cpu")
