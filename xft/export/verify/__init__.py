"""Verification of saved models: reload them and compare their outputs with the live model's."""

from xft.export.verify.check import (
    check_result,
    inspect_in_process,
    logit_tolerance,
    make_request,
    verification_device,
    verify_saved_model,
)
from xft.export.verify.comparison import Comparison
from xft.export.verify.launcher import VerificationSkipped, VerifySubprocess
from xft.export.verify.reference import ReferenceOutputs, reference_outputs
from xft.export.verify.worker import VerifyRequest, VerifyResult

__all__ = [
    "Comparison",
    "ReferenceOutputs",
    "VerificationSkipped",
    "VerifyRequest",
    "VerifyResult",
    "VerifySubprocess",
    "check_result",
    "inspect_in_process",
    "logit_tolerance",
    "make_request",
    "reference_outputs",
    "verification_device",
    "verify_saved_model",
]
