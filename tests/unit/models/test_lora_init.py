"""PiSSA and OLoRA against those of peft, which change the base."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from xft.errors import ConfigError
from xft.export.verify.adapter_norms import adapter_norms
from xft.models import NF4, LoRA, check_quantization
from xft.models.loading import LoadedModel
from xft.optim import adamw, build_optimizer, schedule_free_adamw, to_eval_mode, to_train_mode
from xft.reporting.run_summary import _param_counts

IDS = torch.arange(5, 45).view(2, 20)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def _ours(saved: Path, dtype: str = "float32", **options: Any) -> Any:
    torch.manual_seed(0)
    return load_model(saved, LoRA(r=4, lora_alpha=8, **options), dtype=dtype)


def _theirs(saved: Path, init: str, **options: Any) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        init_lora_weights=init,
        task_type="CAUSAL_LM",
        **options,
    )
    return get_peft_model(base, lora)


def _train(model: Any, optimizer: torch.optim.Optimizer, steps: int = 4) -> list[float]:
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("init", "options"),
    [
        ("pissa", {}),
        ("olora", {}),
        ("pissa", {"use_rslora": True}),
        ("pissa", {"use_dora": True}),
    ],
    ids=["pissa", "olora", "rslora", "dora"],
)
def test_a_training_is_that_of_peft_and_what_is_saved_belongs_on_the_original_base(
    saved: Path, tmp_path: Path, init: str, options: dict[str, Any]
) -> None:
    """The same function, ``W + s (B A - B0 A0)``, written with the base as it is and with what peft leaves of it.
    fp32; peft takes the difference of two products once, in the base, and ours in each layer's output."""
    reference = _theirs(saved, init, **options)
    model = _ours(saved, init_lora_weights=init, **options)
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    before = {name: each.clone() for name, each in base.state_dict().items()}
    kept = {
        name.replace(".base_layer", ""): each for name, each in model.get_base_model().state_dict().items()
    }
    assert all(torch.equal(kept[name], each) for name, each in before.items())
    if not options:
        reference.peft_config["default"].init_lora_weights = True  # so that it is saved as it is
        reference.save_pretrained(tmp_path / "begun")
        reference.peft_config["default"].init_lora_weights = init
    expected = _train(reference, torch.optim.AdamW(reference.parameters(), lr=3e-3, weight_decay=0))
    assert _train(model, build_optimizer(adamw_at(3e-3), model)) == pytest.approx(expected, rel=2e-5)
    assert expected[-1] < expected[0]
    model.save_pretrained(tmp_path / "ours")
    reloaded = PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    with torch.no_grad():
        logits = model.eval()(input_ids=IDS).logits
        torch.testing.assert_close(logits, reference.eval()(input_ids=IDS).logits, rtol=0, atol=2e-4)
        torch.testing.assert_close(reloaded(input_ids=IDS).logits, logits, rtol=0, atol=1e-5)
        merged = reloaded.merge_and_unload(safe_merge=True)(input_ids=IDS).logits
    torch.testing.assert_close(merged, logits, rtol=0, atol=1e-4)
    if not options:
        _is_what_peft_converts_to(reference, tmp_path)


def adamw_at(rate: float) -> Any:
    return lambda groups: adamw(groups, lr=rate)


def _is_what_peft_converts_to(reference: Any, folder: Path) -> None:
    """peft's own conversion to a plain LoRA: the trained half, and the initial one with the sign turned."""
    reference.save_pretrained(
        folder / "theirs", path_initial_model_for_weight_conversion=str(folder / "begun")
    )
    one, two = (load_file(folder / each / "adapter_model.safetensors") for each in ("ours", "theirs"))
    assert one.keys() == two.keys()
    for name, each in one.items():
        # Where it puts the minus is its own business.
        torch.testing.assert_close(_halves(name, each), _halves(name, two[name]), rtol=0, atol=2e-4)


def _halves(name: str, weight: Tensor) -> Tensor:
    return torch.cat([each.abs() for each in weight.chunk(2, dim=0 if "lora_A" in name else 1)])


def _parts(model: Any) -> list[tuple[Tensor, Tensor]]:
    """Of each layer, its weight and what the adapter begins with, ``s B0 A0``."""
    found = []
    for each in model.modules():
        if hasattr(each, "lora_A"):
            a, b = each.lora_A["default"].weight, each.lora_B["default"].weight
            found.append((each.base_layer.weight, each.scaling["default"] * b[:, :4] @ a[:4]))
    return found


def test_a_randomised_decomposition_takes_nearly_as_much_as_any_of_its_rank(saved: Path) -> None:
    """Eckart and Young: no matrix of a rank leaves less of the weight than the largest singular values do."""
    with torch.no_grad():
        for weight, taken in _parts(_ours(saved, init_lora_weights="pissa_niter_16")):
            least = float(torch.linalg.svdvals(weight)[4:].square().sum().sqrt())
            assert least * (1 - 1e-5) <= float((weight - taken).norm()) < 1.02 * least


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora"])
def test_a_model_begins_as_its_base_and_is_it_with_the_adapter_off(saved: Path, init: str) -> None:
    """In bf16 too, where the base that peft leaves is rounded anew."""
    model = _ours(saved, "bfloat16", init_lora_weights=init, loraplus_lr_ratio=4).train()
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = base(input_ids=IDS).logits.float()
        torch.testing.assert_close(model(input_ids=IDS).logits.float(), expected, rtol=0, atol=3e-2)
    _train(model, build_optimizer(adamw_at(3e-3), model))
    with torch.no_grad(), model.disable_adapter():
        torch.testing.assert_close(model(input_ids=IDS).logits.float(), expected, rtol=0, atol=3e-2)
    assert all(norm > 1e-4 for norm in adapter_norms(model).values())


@pytest.mark.parametrize(
    "make", [torch.optim.Muon, torch.optim.SGD, torch.optim.AdamW, "schedule_free_adamw"]
)
def test_whatever_steps_the_trained_half_the_other_one_stays(saved: Path, make: Any) -> None:
    model = _ours(saved, init_lora_weights="pissa")
    before = {name: each.clone() for name, each in model.named_parameters() if "lora_" in name}
    options: dict[str, Any] = {} if make is torch.optim.SGD else {"weight_decay": 0.0}
    if make == "schedule_free_adamw":
        make = schedule_free_adamw
    optimizer = build_optimizer(lambda groups: make(groups, lr=1e-2, **options), model, loraplus_lr_ratio=2)
    to_train_mode(optimizer)
    _train(model, optimizer)
    to_eval_mode(optimizer)
    for name, each in model.named_parameters():
        if "lora_" in name:
            dim = 0 if "lora_A" in name else 1
            one, two = each.chunk(2, dim)
            first, second = before[name].chunk(2, dim)
            assert torch.equal(two, second)
            assert not torch.equal(one, first)


def test_half_of_the_adapter_counts_as_trained(saved: Path) -> None:
    model, plain = _ours(saved, init_lora_weights="olora"), _ours(saved)
    half, whole = (_param_counts(LoadedModel(each, None)) for each in (model, plain))  # type: ignore[arg-type]
    assert half.split()[0] == whole.split()[0]


def test_what_cannot_hold_is_refused(saved: Path) -> None:
    with pytest.raises(ConfigError) as unknown:
        LoRA(init_lora_weights="pisa")
    assert (unknown.value.key, unknown.value.got) == ("adapter.init_lora_weights", "pisa")
    with pytest.raises(ConfigError) as dropout:
        LoRA(init_lora_weights="pissa", lora_dropout=0.1)
    assert (dropout.value.key, dropout.value.got) == ("adapter.lora_dropout", 0.1)
    with pytest.raises(ConfigError) as quantized:
        check_quantization(LoRA(init_lora_weights="olora"), NF4())
    assert (quantized.value.key, quantized.value.got) == ("adapter.init_lora_weights", "olora")
    with pytest.raises(ConfigError, match="at most 64") as rank:
        LoRA(r=65, init_lora_weights="pissa").apply(AutoModelForCausalLM.from_pretrained(saved), [])
    assert (rank.value.key, rank.value.got) == ("adapter.r", 65)
    with pytest.raises(ConfigError, match="embed_tokens is a Embedding; set other target_modules"):
        _ours(saved, init_lora_weights="pissa", target_modules=["embed_tokens"])
    model = _ours(saved, init_lora_weights="pissa")
    with pytest.raises(ConfigError) as decayed:
        build_optimizer(lambda groups: adamw(groups, weight_decay=0.1), model)
    assert (decayed.value.key, decayed.value.got) == ("optimizer.weight_decay", 0.1)
