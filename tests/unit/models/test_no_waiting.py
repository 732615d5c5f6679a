"""Between a batch and its gradients, the device is never asked for a number.

A GPU that is asked makes the host wait until all work before it is done. torch's ``meta`` device has shapes and no
numbers, and refuses whatever would have to read one: what runs there waits for nothing.
"""

from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples
from torch.utils._python_dispatch import TorchDispatchMode

from xft.data import collate_padded, collate_padding_free
from xft.models import TrainingModel
from xft.objectives import DPO, ORPO, next_token

META = torch.device("meta")


@pytest.mark.parametrize("objective", [next_token, DPO(), ORPO()], ids=["sft", "dpo", "orpo"])
def test_a_step_never_waits_for_the_device(objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples one behind the other; of padded ones transformers itself asks whether there is any padding."""
    batch = collate_padding_free(pair_samples())
    model = TrainingModel(adapted_model(), objective).train()
    model(batch)  # whether its logits are the head's is asked once
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # knows no such device
    there = batch.to(META)
    output = model.to(META)(there)
    output.loss_sum.backward()
    assert output.loss_sum.device == META
    assert output.num_targets > 0
    assert all(each.grad is not None for each in model.parameters() if each.requires_grad)


def test_a_batch_that_went_to_a_device_knows_what_the_host_knew() -> None:
    for batch in (collate_padding_free(pair_samples()), collate_padded(pair_samples(), 0)):
        there = batch.to(META)
        assert there.targets_per_sample == batch.targets_per_sample == [5, 7, 2, 4, 6, 3, 1, 9]
        assert there.target_positions.shape == (sum(batch.targets_per_sample),)
        targets = batch.labels.flatten()[batch.target_positions + 1]
        assert torch.equal(targets, batch.labels[:, 1:][batch.labels[:, 1:] != -100])


def test_meta_refuses_to_tell_numbers() -> None:
    """What the tests above stand on."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device=META).nonzero()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device=META).tolist()


@pytest.mark.parametrize("objective", [next_token, DPO()], ids=["sft", "dpo"])
def test_no_tensor_grows_with_the_square_of_the_context_or_with_tokens_times_vocabulary(
    objective: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest tensor of a step, forward and backward, with twice the context: twice as large at most. The
    limits of chunks and blocks are lowered, as the sample is small."""
    from helpers.preferences import VOCABULARY

    from xft.kernels import attention_blocks, logit_chunks
    from xft.models import attention as choice
    from xft.types import Sample

    monkeypatch.setattr(attention_blocks, "LONG_BLOCK", 16)
    monkeypatch.setattr(attention_blocks, "SAVED_PROBS_LIMIT", 32)
    monkeypatch.setattr(choice, "_supports_blocks", lambda query, lengths: True)
    monkeypatch.setitem(logit_chunks.CHUNK_LOGITS, "cpu", 8 * VOCABULARY)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for each in result if isinstance(result, list | tuple) else (result,):
                if isinstance(each, torch.Tensor):
                    largest = max(largest, each.numel())
            return result

    model = TrainingModel(adapted_model(), objective).train()
    found = []
    for length in (256, 512):
        ids = (
            torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(0))
            .int()
            .numpy()
        )
        batch = collate_padding_free([Sample(ids, ids.copy())] * 2)
        model(batch).loss_sum.backward()
        largest = 0
        with Watch():
            model(batch).loss_sum.backward()
        found.append(largest)
    assert found[1] <= 2 * found[0]
    assert found[1] < 512 * 512
    assert found[1] < 2 * 512 * VOCABULARY
