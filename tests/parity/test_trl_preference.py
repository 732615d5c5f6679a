"""The first step of each preference objective against TRL's trainer: loss and gradients.

Both see the same ids: the data room's templates are left out, TRL's collators get prompt and answers
as they stand. In fp32 both sum in another order, so the last bits differ: 1e-4 relative.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import (
    adapted_model,
    adapted_reward_model,
    judged_samples,
    pair_samples,
    reward_model,
    sample,
    texts,
    whole_model,
)
from torch import Tensor

from xft.data import collate_padding_free
from xft.models.reference import FrozenReference
from xft.objectives import CPO, DPO, KTO, ORPO, Reward, SimPO
from xft.types import Batch, LossOutput

if find_spec("trl") is None:
    pytest.skip("trl is not installed (requirements/test.txt)", allow_module_level=True)

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.kto import KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

REFERENCE_SEED = 5
ROWS = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 4
LABELLED = [{"prompt": "a", "completion": "b", "label": each} for each in (True, False, True, False)]
Step = tuple[float, dict[str, Tensor], dict[str, float]]


def _trainer(kind: Any, config: Any, tokenizer: Any, folder: Path, rows: Any, **arguments: Any) -> Any:
    """A trainer of TRL. Its own rows are not used: batches are given to its loss directly."""
    reference = arguments.pop("ref_model", None)
    options = {"ref_model": reference} if reference is not None else {}
    return kind(
        model=whole_model(attention="eager"),
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_dropout=True,
            **arguments,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        **options,
    )


def _reference() -> Any:
    return whole_model(REFERENCE_SEED, attention="eager")


def _gradients(model: Any) -> dict[str, Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def _ours(objective: Callable[[Any, Batch], LossOutput], batch: Batch, model: Any = None) -> Step:
    model = whole_model() if model is None else model
    output = objective(model, batch)
    (output.loss_sum / output.num_targets).backward()
    means = {
        name: float(value) / (output.metric_denominators.get(name, output.num_targets) or 1)
        for name, value in output.metrics.items()
    }
    return float(output.loss_sum.detach()) / output.num_targets, _gradients(model), means


def _agree(ours: Step, loss: Tensor, trainer: Any) -> None:
    loss.backward()
    assert ours[0] == pytest.approx(float(loss.detach()), rel=1e-4)
    expected = _gradients(trainer.model)
    assert ours[1].keys() == expected.keys()
    for name, each in expected.items():
        # Relative to the largest of a weight: small ones are differences of large ones.
        tolerance = 1e-4 * float(each.abs().max())
        torch.testing.assert_close(ours[1][name], each, rtol=1e-4, atol=tolerance, msg=name)


def _pairs_for_dpo(trainer: Any) -> dict[str, Tensor]:
    rows = [{"prompt_ids": a, "chosen_ids": b, "rejected_ids": c} for a, b, c in texts()]
    batch: dict[str, Tensor] = trainer.data_collator(rows)
    return batch


DPO_LOSSES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"loss_type": ["sigmoid"]}),
    ({"loss": "robust", "label_smoothing": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
    ({"loss": "hinge"}, {"loss_type": ["hinge"]}),
    ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    ({"loss": "sppo_hard"}, {"loss_type": ["sppo_hard"]}),
    ({"loss": "nca_pair"}, {"loss_type": ["nca_pair"]}),
    ({"length_normalized": True}, {"loss_type": ["sigmoid_norm"]}),
]


@pytest.mark.parametrize(("ours", "theirs"), DPO_LOSSES, ids=lambda each: str(each.get("loss_type", "")))
def test_dpo(ours: dict[str, Any], theirs: dict[str, Any], byte_tokenizer: Any, tmp_path: Path) -> None:
    trainer = _trainer(
        DPOTrainer, DPOConfig, byte_tokenizer, tmp_path, ROWS, beta=0.3, ref_model=_reference(), **theirs
    )
    loss = trainer._compute_loss(trainer.model, _pairs_for_dpo(trainer), False)
    objective, reference = DPO(beta=0.3, **ours), FrozenReference(_reference())
    step = _ours(
        lambda model, batch: objective.loss_with_reference(reference, model, batch),
        collate_padding_free(pair_samples()),
    )
    _agree(step, loss, trainer)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    if not (ours.get("length_normalized") or ours.get("loss") == "ipo"):  # TRL logs rewards undivided
        _agree_on_metrics(step[2], logged)
    for name in ("logps/chosen", "logps/rejected"):
        assert step[2][name] == pytest.approx(logged[name], rel=1e-4), name


def test_dpo_with_an_sft_term_where_both_weigh_alike(byte_tokenizer: Any, tmp_path: Path) -> None:
    """TRL averages over the tokens of a batch, we within each answer: one pair is the same in both."""
    trainer = _trainer(
        DPOTrainer,
        DPOConfig,
        byte_tokenizer,
        tmp_path,
        ROWS,
        beta=0.3,
        ref_model=_reference(),
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 0.7],
    )
    prompt, chosen, rejected = texts()[0]
    rows = [{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}]
    loss = trainer._compute_loss(trainer.model, trainer.data_collator(rows), False)
    objective, reference = DPO(beta=0.3, nll_weight=0.7), FrozenReference(_reference())
    step = _ours(
        lambda model, batch: objective.loss_with_reference(reference, model, batch),
        collate_padding_free(pair_samples()[:2]),
    )
    _agree(step, loss, trainer)


def test_dpo_of_an_adapter_against_its_base(byte_tokenizer: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    trainer = DPOTrainer(
        model=whole_model(attention="eager"),
        args=DPOConfig(
            output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False
        ),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=byte_tokenizer,
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    model = adapted_model()
    missing = trainer.model.load_state_dict(model.state_dict(), strict=True)
    assert not missing.missing_keys
    loss = trainer._compute_loss(trainer.model, _pairs_for_dpo(trainer), False)
    output = DPO()(model, collate_padding_free(pair_samples()))
    (output.loss_sum / 4).backward()
    _agree((float(output.loss_sum.detach()) / 4, _gradients(model), {}), loss, trainer)


def _padded(rows: list[tuple[list[int], list[int], list[int]]]) -> dict[str, Tensor]:
    """What the collator of TRL's ORPO and CPO trainers gives."""
    batch: dict[str, Tensor] = {}
    for side, answers in (("chosen", [each[1] for each in rows]), ("rejected", [each[2] for each in rows])):
        prompts = [each[0] for each in rows]
        longest = max(len(a) + len(b) for a, b in zip(prompts, answers, strict=True))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            size = len(prompt) + len(answer)
            ids[number, :size] = torch.tensor(prompt + answer)
            mask[number, :size] = 1
            labels[number, len(prompt) : size] = torch.tensor(answer)
        batch |= {f"{side}_input_ids": ids, f"{side}_attention_mask": mask, f"{side}_labels": labels}
    return batch


def _step_of(trainer: Any, rows: list[Any]) -> tuple[Tensor, dict[str, float]]:
    """Mean over single pairs: TRL's likelihood term weighs the tokens of a batch, ours its pairs."""
    found = [trainer.get_batch_loss_metrics(trainer.model, _padded([each])) for each in rows]
    metrics = {name: sum(each[1][name] for each in found) / len(found) for name in found[0][1]}
    return torch.stack([each[0] for each in found]).mean(), metrics


def _agree_on_metrics(ours: dict[str, float], theirs: dict[str, float]) -> None:
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5), name


def test_orpo(byte_tokenizer: Any, tmp_path: Path) -> None:
    """TRL takes the likelihood over the prompt too, so prompts have one token here, which nothing
    predicts."""
    trainer = _trainer(ORPOTrainer, ORPOConfig, byte_tokenizer, tmp_path, ROWS, beta=0.4)
    rows = [(prompt[:1], chosen, rejected) for prompt, chosen, rejected in texts()]
    loss, metrics = _step_of(trainer, rows)
    samples = [sample(prompt, answer) for prompt, *both in rows for answer in both]
    step = _ours(ORPO(beta=0.4), collate_padding_free(samples))
    _agree(step, loss, trainer)
    _agree_on_metrics(step[2], metrics)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cpo(smoothing: float, byte_tokenizer: Any, tmp_path: Path) -> None:
    trainer = _trainer(
        CPOTrainer,
        CPOConfig,
        byte_tokenizer,
        tmp_path,
        ROWS,
        beta=0.2,
        cpo_alpha=0.6,
        label_smoothing=smoothing,
    )
    loss, metrics = _step_of(trainer, texts())
    step = _ours(
        CPO(beta=0.2, cpo_alpha=0.6, label_smoothing=smoothing), collate_padding_free(pair_samples())
    )
    _agree(step, loss, trainer)
    _agree_on_metrics(step[2], metrics)


@pytest.mark.parametrize("nll_weight", [0.0, 0.6])
def test_simpo(nll_weight: float, byte_tokenizer: Any, tmp_path: Path) -> None:
    trainer = _trainer(
        CPOTrainer,
        CPOConfig,
        byte_tokenizer,
        tmp_path,
        ROWS,
        loss_type="simpo",
        beta=2.0,
        simpo_gamma=1.0,
        cpo_alpha=nll_weight,
    )
    loss, metrics = _step_of(trainer, texts())
    step = _ours(SimPO(beta=2.0, gamma=1.0, nll_weight=nll_weight), collate_padding_free(pair_samples()))
    _agree(step, loss, trainer)
    _agree_on_metrics(step[2], metrics)


@pytest.mark.parametrize(("ours", "theirs"), [("mismatched", "kto"), ("zero", "apo_zero_unpaired")])
@pytest.mark.parametrize("reference_seed", [5, 8])  # a base above zero, and one below that becomes zero
def test_kto(ours: Any, theirs: str, reference_seed: int, byte_tokenizer: Any, tmp_path: Path) -> None:
    """With a base of zero, KTO is the unpaired APO-zero of TRL."""
    trainer = _trainer(
        KTOTrainer,
        KTOConfig,
        byte_tokenizer,
        tmp_path,
        LABELLED,
        beta=0.3,
        ref_model=whole_model(reference_seed, attention="eager"),
        loss_type=theirs,
        desirable_weight=1.5 if ours == "mismatched" else 1.0,
    )
    answers = [
        chosen if number % 2 == 0 else rejected for number, (_, chosen, rejected) in enumerate(texts())
    ]
    rows = [
        {"prompt_ids": prompt, "completion_ids": answers[number], "label": number % 2 == 0}
        | ({"KL_completion_ids": answers[number - 1]} if ours == "mismatched" else {})
        for number, (prompt, _, _) in enumerate(texts())
    ]
    loss = trainer._compute_loss(trainer.model, trainer.data_collator(rows), False)
    objective = KTO(beta=0.3, desirable_weight=1.5 if ours == "mismatched" else 1.0, kl=ours)
    reference = FrozenReference(whole_model(reference_seed, attention="eager"))
    step = _ours(
        lambda model, batch: objective.loss_with_reference(reference, model, batch),
        collate_padding_free(judged_samples()),
    )
    _agree(step, loss, trainer)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    for name in ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert step[2][name] == pytest.approx(logged[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("margin", [None, 0.8])
@pytest.mark.parametrize("adapted", [False, True])
def test_reward(margin: float | None, adapted: bool, byte_tokenizer: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")
    trainer = RewardTrainer(
        model=reward_model(attention="eager", bare=True),
        args=RewardConfig(
            output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False
        ),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=byte_tokenizer,
        peft_config=lora if adapted else None,
    )
    mine = adapted_reward_model() if adapted else reward_model()
    trainer.model.load_state_dict(mine.state_dict(), strict=True)
    rows = [
        {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}
        | ({} if margin is None else {"margin": margin})
        for prompt, chosen, rejected in texts()
    ]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    step = _ours(Reward(margin=margin or 0.0), collate_padding_free(pair_samples()), mine)
    _agree(step, loss, trainer)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert step[2]["rewards/margins"] == pytest.approx(logged["margin"], rel=1e-4)
    assert step[2]["rewards/accuracies"] == logged["accuracy"]
    mean = (step[2]["rewards/chosen"] + step[2]["rewards/rejected"]) / 2
    assert mean == pytest.approx(logged["mean_reward"], rel=1e-4)
