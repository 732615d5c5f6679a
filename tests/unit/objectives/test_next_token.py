import pytest
import torch
from helpers.preferences import pair_samples, whole_model
from torch.nn.functional import cross_entropy

from xft.data import collate_padded, collate_padding_free
from xft.objectives import next_token


def test_next_token_loss_and_accuracy_equal_transformers_in_both_layouts() -> None:
    model, samples = whole_model(), pair_samples()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for sample in samples:
            logits = model(input_ids=torch.tensor(sample.input_ids.tolist())[None]).logits[0, :-1]
            labels = torch.tensor(sample.labels.tolist())[1:]
            loss += float(cross_entropy(logits.double(), labels, reduction="sum"))
            correct += int((logits.argmax(-1) == labels).sum())
    for batch in (collate_padding_free(samples), collate_padded(samples, pad_token_id=0)):
        output = next_token(model, batch)
        assert output.num_targets == next_token.count_targets(batch) == 5 + 7 + 2 + 4 + 6 + 3 + 1 + 9
        assert float(output.loss_sum.detach()) == pytest.approx(loss, rel=1e-5)
        assert int(output.metrics["accuracy"]) == correct


def test_next_token_of_batch_without_targets_has_zero_loss_and_gradient() -> None:
    model, batch = whole_model(), collate_padding_free(pair_samples()[:2])
    batch.labels.fill_(-100)
    output = next_token(model, batch)
    output.loss_sum.backward()
    assert (output.num_targets, float(output.loss_sum.detach())) == (0, 0.0)
    assert not any(bool(param.grad.any()) for param in model.parameters())
