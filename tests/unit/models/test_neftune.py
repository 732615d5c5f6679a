"""NEFTune's noise against that of transformers, and against the paper's bounds for each sample."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from helpers.tolerances import assert_close_sums, tolerance
from transformers.integrations.neftune import neftune_post_forward_hook

from xft.data import collate_padded, collate_padding_free
from xft.distributed import split_sequence
from xft.errors import ConfigError
from xft.models import CausalLMConfig, LoRA, TrainingModel
from xft.models.neftune import add_embedding_noise, enable_neftune
from xft.models.scoring import eval_mode, target_loss
from xft.objectives import next_token
from xft.types import Sample, SequenceParallelGroup

WIDTH = 64
LENGTHS = (7, 90, 24)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def _load(saved: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    return load_model(saved, **{"adapter": LoRA(r=4), "neftune_alpha": 5.0, **options}).train()


def _samples(lengths: tuple[int, ...] = LENGTHS) -> list[Sample]:
    generator = torch.Generator().manual_seed(2)
    ids = [torch.randint(3, 90, (each,), generator=generator).int().numpy() for each in lengths]
    return [Sample(each, each.copy()) for each in ids]


def test_the_noise_of_a_sample_alone_is_that_of_transformers(saved: Path) -> None:
    model, batch = _load(saved), collate_padding_free(_samples((30,)))
    torch.manual_seed(5)
    got = add_embedding_noise(model, batch, batch.input_ids)
    embed = model.get_input_embeddings()
    embed.neftune_noise_alpha = 5.0
    torch.manual_seed(5)
    expected = neftune_post_forward_hook(embed, None, embed(batch.input_ids))
    assert_close_sums(got, expected, tolerance(torch.float32, 3))
    assert not torch.equal(got, embed(batch.input_ids))


@pytest.mark.parametrize("lay", ["flat", "padded"])
def test_each_sample_has_the_noise_of_its_own_length(saved: Path, lay: str) -> None:
    """Evenly within ``5 / sqrt(L · 64)``: nothing beyond, a variance of a third of its square, a mean of zero."""
    model = _load(saved)
    batch = collate_padding_free(_samples()) if lay == "flat" else collate_padded(_samples(), 0)
    plain = model.get_input_embeddings()(batch.input_ids)
    noisy = add_embedding_noise(model, batch, batch.input_ids)
    assert noisy is not None
    noise = (noisy - plain).detach()
    pieces = noise[0].split(LENGTHS) if lay == "flat" else [noise[at, :n] for at, n in enumerate(LENGTHS)]
    for piece, length in zip(pieces, LENGTHS, strict=True):
        most = 5 / (length * WIDTH) ** 0.5
        assert 0.95 * most < float(piece.abs().max()) <= most * (1 + 1e-5)
        # Of n numbers the mean square is within about 1 / sqrt(n) of what is expected; the least n is 448.
        assert float(piece.square().mean()) == pytest.approx(most**2 / 3, rel=0.2)
        assert abs(float(piece.mean())) < 0.15 * most
    if lay == "padded":
        assert not noise[0, LENGTHS[0] :].any()


def test_ranks_that_share_a_batch_out_give_each_token_the_noise_of_its_sample(saved: Path) -> None:
    """Also where a sample lies across a cut; and none to what is added behind."""
    model, whole = _load(saved), collate_padding_free(_samples())
    found = []
    for rank in range(4):
        group = SequenceParallelGroup(rank, 4, None)
        ids = split_sequence(whole.input_ids, group)
        noisy = add_embedding_noise(model, replace(whole, sequence=group), ids)
        assert noisy is not None
        found.append((noisy - model.get_input_embeddings()(ids)).detach())
    noise = torch.cat(found, dim=1)[0]
    lengths = [each for each in LENGTHS for _ in range(each)]
    assert len(noise) == len(lengths) + 3
    most = torch.tensor([5 / (each * WIDTH) ** 0.5 for each in lengths])
    highest = (noise[: len(lengths)].abs().amax(dim=1) / most).tolist()
    assert 0.8 < min(highest) < max(highest) <= 1 + 1e-5
    assert not noise[len(lengths) :].any()


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"adapter": None}], ids=str)
def test_a_step_is_that_of_the_model_with_noisy_embeddings(saved: Path, options: dict[str, Any]) -> None:
    """Loss and gradients against transformers' own forward pass, sample by sample, given the same embeddings."""
    model, batch = _load(saved, **options), collate_padding_free(_samples())
    torch.manual_seed(6)
    embeddings = add_embedding_noise(model, batch, batch.input_ids)
    assert embeddings is not None
    expected = 0.0
    for piece, sample in zip(embeddings.split(LENGTHS, dim=1), _samples(), strict=True):
        labels = torch.from_numpy(sample.labels).long()[None]
        loss = model(inputs_embeds=piece, labels=labels).loss
        expected = expected + loss * (len(sample) - 1)
    expected.backward()  # type: ignore[attr-defined]
    gradients = {
        name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None
    }
    model.zero_grad()
    torch.manual_seed(6)
    output = TrainingModel(model, next_token)(batch)
    output.loss_sum.backward()
    assert float(output.loss_sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)  # type: ignore[attr-defined]
    for name, each in model.named_parameters():
        if each.grad is not None:
            torch.testing.assert_close(each.grad, gradients[name], rtol=1e-3, atol=2e-4)
    torch.manual_seed(7)
    other = TrainingModel(model, next_token)(batch).loss_sum.detach()
    assert float(other) != float(output.loss_sum.detach())


def test_validation_and_an_adapter_that_is_off_see_no_noise(saved: Path) -> None:
    model, plain, batch = _load(saved), _load(saved, neftune_alpha=None), collate_padding_free(_samples())
    with eval_mode(model), eval_mode(plain):
        assert torch.equal(target_loss(model, batch)[0], target_loss(plain, batch)[0])
        with model.disable_adapter():
            assert add_embedding_noise(model, batch, batch.input_ids) is None
    assert model.training
    assert add_embedding_noise(plain.train(), batch, batch.input_ids) is None


def test_what_cannot_be_is_refused(saved: Path) -> None:
    with pytest.raises(ConfigError) as negative:
        CausalLMConfig("m", neftune_alpha=-1)
    assert (negative.value.key, negative.value.got) == ("model.neftune_alpha", -1)
    model = _load(saved, adapter=None)
    model.config.hidden_size_per_layer_input = 256
    with pytest.raises(ConfigError) as no_embeddings:
        enable_neftune(model, 5.0)
    assert (no_embeddings.value.key, no_embeddings.value.got) == ("model.neftune_alpha", 5.0)
