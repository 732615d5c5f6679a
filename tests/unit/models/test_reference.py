"""Reference models: disabled adapter, frozen copy, precomputed log-probabilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, whole_model
from helpers.strategies import FakeStrategy
from peft import LoraConfig, get_peft_model

from xft.data import Collator, collate_padding_free
from xft.errors import ConfigError, TrainingError
from xft.models import LoadedModel
from xft.models.reference import (
    DisabledAdapterReference,
    FrozenReference,
    PrecomputedReference,
    ReferenceContext,
    _shard_batches,
    build_reference,
)
from xft.objectives import DPO
from xft.types import Batch, Sample


def _setup(
    model: Any, samples: list[Sample] | None = None, samples_per_example: int = 2, tokenizer: Any = None
) -> ReferenceContext:
    chosen = pair_samples() if samples is None else samples

    def batches() -> Iterator[Batch]:
        return Collator(samples_per_example).iter_batches(chosen, max_tokens=40)

    return ReferenceContext(LoadedModel(model, tokenizer), FakeStrategy(), batches)


def _trainable(model: Any) -> list[str]:
    return [name for name, param in model.named_parameters() if param.requires_grad]


@pytest.mark.parametrize(
    "extra", [{}, {"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [7, 0]}]
)
def test_disabled_adapter_reference_equals_base_and_restores_adapter(extra: dict[str, Any]) -> None:
    base = whole_model()
    if "modules_to_save" in extra:
        base.config.tie_word_embeddings = False
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone())
    batch = collate_padding_free(pair_samples())
    expected = FrozenReference(base)(base, batch)
    config = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", task_type="CAUSAL_LM", **extra)
    model = get_peft_model(base, config).train()
    for name, param in model.named_parameters():
        if param.requires_grad and "lora_A" not in name:
            param.data.add_(torch.randn_like(param), alpha=0.1)
    before = _trainable(model)
    got = DisabledAdapterReference()(model, batch)
    torch.testing.assert_close(got, expected)
    assert not got.requires_grad
    assert _trainable(model) == before
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        assert not torch.allclose(FrozenReference(model)(model, batch), expected)


def test_disabled_adapter_reference_keeps_parameters_trainable_that_are_replaced_meanwhile() -> None:
    """FSDP2 registers gathered parameters in place of the sharded ones while a layer computes."""
    model = adapted_model()
    name = next(name for name in _trainable(model) if "lora_A" in name)
    module, _, key = name.rpartition(".")
    owner, sharded = model.get_submodule(module), model.get_parameter(name)

    def gather(*_: object) -> None:
        owner.register_parameter(key, torch.nn.Parameter(sharded.detach(), requires_grad=False))

    model.get_submodule(module.partition(".lora_A")[0]).register_forward_pre_hook(gather)
    DisabledAdapterReference()(model, collate_padding_free(pair_samples()))
    assert model.get_parameter(name) is not sharded
    assert sharded.requires_grad


def test_frozen_copy_is_unchanged_by_training() -> None:
    model = whole_model()
    reference = build_reference("frozen_copy", False, _setup(model))
    batch = collate_padding_free(pair_samples())
    before = reference(model, batch)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.1)
    assert torch.equal(reference(model, batch), before)
    assert not torch.allclose(FrozenReference(model)(model, batch), before)
    assert isinstance(reference, FrozenReference)
    assert not any(param.requires_grad for param in reference.model.parameters())


def test_build_reference_auto_disables_adapter_or_copies_model() -> None:
    assert isinstance(build_reference("auto", False, _setup(adapted_model())), DisabledAdapterReference)
    assert isinstance(build_reference("auto", False, _setup(whole_model())), FrozenReference)
    with pytest.raises(ConfigError) as error:
        build_reference("disable_adapter", False, _setup(whole_model()))
    assert (error.value.key, error.value.got) == ("objective.reference", "disable_adapter")


@pytest.mark.parametrize("make", [adapted_model, whole_model])
def test_precomputed_reference_equals_live_reference(make: Any) -> None:
    """Precomputation uses other batches, so the last bits may differ."""
    model = make()
    setup = _setup(model)
    live, precomputed = (build_reference("auto", precompute, setup) for precompute in (False, True))
    assert isinstance(precomputed, PrecomputedReference)
    samples = pair_samples()
    for units in ([0, 1, 2, 3], [3, 1], [2]):
        for collator in (Collator(2), Collator(2, "padded", 0)):
            batch = collator.collate(samples, units)
            torch.testing.assert_close(precomputed(model, batch), live(model, batch), rtol=1e-5, atol=1e-5)
    batch = collate_padding_free(samples)
    losses = [
        float(DPO(beta=0.3).loss_with_reference(reference, model, batch).loss_sum.detach())
        for reference in (live, precomputed)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_build_reference_with_sharded_params_requires_precomputation() -> None:
    setup = _setup(whole_model())
    with pytest.raises(ConfigError) as error:
        build_reference(
            "auto",
            False,
            ReferenceContext(setup.loaded, FakeStrategy(params_are_sharded=True), setup.batches),
        )
    assert (error.value.key, error.value.got) == ("objective.reference", "frozen_copy")
    assert "objective.precompute_ref_log_probs=True" in error.value.fix
    kept = build_reference(
        "auto", True, ReferenceContext(setup.loaded, FakeStrategy(params_are_sharded=True), setup.batches)
    )
    assert isinstance(kept, PrecomputedReference)


def test_shard_batches_gives_all_ranks_equally_many_batches() -> None:
    """With sharded parameters each forward pass is a collective operation."""
    batches: list[Any] = list("abcdefg")
    shards = [list(_shard_batches(batches, rank, 3)) for rank in range(3)]
    assert shards == [["a", "d", "g"], ["b", "e", "g"], ["c", "f", "g"]]


def test_precomputed_reference_shards_batches_over_ranks() -> None:
    model = adapted_model()
    whole = build_reference("auto", True, _setup(model))
    assert isinstance(whole, PrecomputedReference)
    computed: list[dict[int, float]] = []
    for rank in range(2):
        ranks = FakeStrategy(data_rank=rank, data_world_size=2)
        ranks.gather = lambda value: computed.append(value) or [value]  # type: ignore[method-assign, func-returns-value]
        setup = _setup(model)
        build_reference("auto", True, ReferenceContext(setup.loaded, ranks, setup.batches))
    assert 0 < len(computed[0]) < 8
    assert computed[0].keys() | computed[1].keys() == set(whole.hashes.tolist())
    # Both ranks compute the third of three batches, in the last round.
    assert len(computed[0].keys() & computed[1].keys()) == 2


def test_precomputed_reference_of_unknown_sample_raises_training_error() -> None:
    model = adapted_model()
    kept = build_reference("auto", True, _setup(model, pair_samples()[:4]))
    kept(model, collate_padding_free(pair_samples()[:4]))
    without_hashes = collate_padding_free(pair_samples()[:2])
    without_hashes.sample_hashes = []
    for batch in (collate_padding_free(pair_samples()[2:6]), without_hashes):
        with pytest.raises(TrainingError) as error:
            kept(model, batch)
        assert error.value.key == "objective.precompute_ref_log_probs"
        assert error.value.got == batch.num_samples


def test_build_reference_loads_saved_model(tmp_path: Path, byte_tokenizer: Any) -> None:
    from helpers.tiny import save_tiny

    from xft.models.saved_model import load_saved_model

    folder = save_tiny(tmp_path / "other", "llama", byte_tokenizer)
    opened = load_saved_model(str(folder), dtype="float32")
    policy = load_saved_model(str(folder), dtype="float32")
    with torch.no_grad():
        for param in policy.model.parameters():
            param.mul_(1.1)
    setup = ReferenceContext(policy, FakeStrategy(), lambda: Collator(2).iter_batches(pair_samples()))
    reference = build_reference(str(folder), False, setup)
    batch = collate_padding_free(pair_samples())
    expected = FrozenReference(opened.model)(opened.model, batch)
    torch.testing.assert_close(reference(policy.model, batch), expected)
    assert not torch.allclose(FrozenReference(policy.model)(policy.model, batch), expected)


def test_build_reference_with_other_tokenizer_raises_config_error(
    tmp_path: Path, byte_tokenizer: Any, make_byte_tokenizer: Any
) -> None:
    from helpers.tiny import save_tiny

    from xft.models.saved_model import load_saved_model

    ours = save_tiny(tmp_path / "ours", "llama", byte_tokenizer)
    theirs = save_tiny(tmp_path / "theirs", "llama", make_byte_tokenizer(specials=("<|other|>",)))
    setup = ReferenceContext(load_saved_model(str(ours), dtype="float32"), FakeStrategy(), lambda: iter(()))
    with pytest.raises(ConfigError) as error:
        build_reference(str(theirs), False, setup)
    assert (error.value.key, error.value.got) == ("objective.reference", str(theirs))
