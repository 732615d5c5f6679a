from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.common import TRANSFORMERS, Defaults, import_common, import_unsupported
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft


def read(adapter: bool = True, rate: float | None = 5e-5, **values: Any) -> Draft:
    draft = Draft(
        "tool", {"adapter": {"type": "lora"} if adapter else None, "model": {"type": "causal_lm"}}
    )
    import_common(Arguments(draft, values), Defaults(rate, others=TRANSFORMERS))
    assert draft.unexplained == []
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({"max_steps": -1}, "training.max_steps", None),
        ({"max_grad_norm": 0}, "training.max_grad_norm", None),
        ({"gradient_checkpointing": False}, "model.gradient_checkpointing", False),
        ({"gradient_checkpointing": "offload"}, "model.gradient_checkpointing", "offload"),
        ({"gradient_checkpointing": "unsloth"}, "model.gradient_checkpointing", "offload"),
        ({"gradient_checkpointing": "offload_disk"}, "model.gradient_checkpointing", "offload"),
        ({"torch_compile": True}, "model.torch_compile", True),
        ({"torch_compile": "auto"}, "model.torch_compile", True),
        ({"neftune_noise_alpha": 5}, "model.neftune_alpha", 5),
        ({"seed": 7}, "seed", 7),
        ({"early_stopping_patience": 3}, "hooks.early_stopping", {"patience": 3}),
        ({"save_strategy": "steps", "save_steps": 50}, "hooks.checkpoint.interval", 50),
        ({"save_strategy": "epoch", "save_steps": 50}, "hooks.checkpoint.interval", None),
        ({"save_only_model": True}, "hooks.checkpoint.save_optimizer_state", False),
        ({"metric_for_best_model": "eval_loss"}, "hooks.checkpoint.metric_for_best_model", "loss"),
        ({"report_to": "wandb", "run_name": "a"}, "loggers.wandb", {"name": "a"}),
        ({"use_tensorboard": True}, "loggers", {"tensorboard": {}}),
        ({"use_swanlab": True, "swanlab_mode": "cloud"}, "loggers.swanlab", {"mode": "online"}),
        ({"output_dir": "out"}, "work_dir", "out"),
    ],
)
def test_arguments_have_their_place(values: dict[str, Any], path: str, value: object) -> None:
    assert read(**values).get(path) == value


def test_clipping_that_is_off_is_off_in_the_config() -> None:
    assert read(max_grad_norm=0).has("training.max_grad_norm")


def test_defaults_of_the_tool_are_values_with_an_entry() -> None:
    draft = read(num_train_epochs=2)
    assert draft.get("training") == {
        "epochs": 2.0,
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 1,
    }
    assert draft.get("optimizer") == {"lr": 5e-5, "type": "adamw"}
    assert draft.get("lr_scheduler") == {"type": "linear", "warmup_steps": 0}
    assert draft.get("seed") == 42
    texts = {entry.key: entry.text for entry in draft.entries}
    assert texts["learning_rate"] == "optimizer.lr = 5e-05 (the default of tool)"
    assert "default" not in texts["num_train_epochs"]


def test_a_tool_may_have_no_default() -> None:
    kinds = {entry.key: entry.kind for entry in read(rate=None).entries}
    assert kinds["learning_rate"] == CHANGED


def test_every_key_is_listed_but_those_that_only_print() -> None:
    draft = read(
        torch_compile=True,
        flash_attn="fa2",
        trust_remote_code=True,
        push_to_hub=True,
        group_by_length=True,
        train_on_inputs=False,
        label_smoothing=0.1,
        some_switch=False,
        logging_steps=1,
        plot_loss=True,
        x=None,
    )
    entries = {entry.key: entry.kind for entry in draft.entries}
    missing = {"push_to_hub", "group_by_length", "train_on_inputs", "some_switch"}
    assert missing == {key for key, kind in entries.items() if kind == MISSING}
    assert entries["flash_attn"] == TAKEN
    assert entries["label_smoothing"] == TAKEN  # of no effect: the objective is sft
    assert draft.get("objective") is None
    assert entries["trust_remote_code"] == CHANGED
    assert draft.get("model.trust_remote_code") is None  # code of a model runs only if the user turns it on
    assert not {"logging_steps", "plot_loss", "x"} & entries.keys()


def test_keys_of_an_adapter_are_left_out_without_one() -> None:
    assert read(adapter=False, lora_dropout=0.1).get("adapter") is None


def test_methods_that_xft_lacks_are_missing_if_they_are_on() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"use_a": True, "a_rank": 1, "use_b": False})
    import_unsupported(values, {"use_a": "A", "use_b": "B"}, {"a_": "A"})
    assert {entry.key: entry.kind for entry in draft.entries} == {
        "use_a": MISSING,
        "use_b": TAKEN,
        "a_rank": MISSING,
    }
