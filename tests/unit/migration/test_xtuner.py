"""Configs of XTuner: model, objective, hooks, and what becomes of every name."""

import pytest
from helpers.xtuner_config import HEAD, LORA

from xft.errors import ConfigError
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.xtuner import import_xtuner


def read(end: str, head: str = HEAD) -> Draft:
    draft = import_xtuner(head + end, "c.py")
    assert draft.unexplained == []
    return draft


def kinds(draft: Draft) -> dict[str, str]:
    return {key: entry.kind for entry in draft.entries for key in entry.keys}


def test_qlora_has_the_values_of_the_config() -> None:
    config = read(LORA).finish()
    assert config["model"] == {"type": "causal_lm", "path": "org/model"}
    assert config["quantization"] == {"type": "nf4", "double_quant": False}
    assert config["adapter"] == {
        "type": "lora",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
    }
    assert config["hooks"]["checkpoint"] == {"type": "checkpoint", "interval": 50, "save_total_limit": 3}
    assert config["hooks"]["sample_generation"] == {"type": "sample_generation", "interval": 25}
    assert config["eval_prompts"] == ["Who are you?"]
    assert config["seed"] == 7


def test_every_name_is_explained_by_what_uses_it() -> None:
    entries = kinds(read(LORA + "unused = 5\nresume = False\n"))
    assert entries["unused"] == MISSING
    assert not {"lr", "batch_size", "rows", "resume", "evaluation_inputs"} & entries.keys()
    assert [key for key, kind in entries.items() if kind == MISSING] == ["unused"]


@pytest.mark.parametrize(
    ("model", "path", "value"),
    [
        ("type=DPO, llm=llm, loss_type='hinge', beta=0.2", "objective", {"type": "dpo", "loss": "hinge", "beta": 0.2}),
        ("type=ORPO, llm=llm, beta=0.2", "objective", {"type": "orpo", "beta": 0.2}),
        ("type=RewardModel, llm=llm, loss_type='focal', penalty_type='l2'", "objective", {"type": "reward", "loss": "focal", "penalty": "l2"}),
        ("type=RewardModel, llm=llm", "objective.penalty", "log_barrier"),
        ("type=SupervisedFinetune, llm=llm", "adapter", None),
    ],
)  # fmt: skip
def test_models_have_objectives(model: str, path: str, value: object) -> None:
    assert read(f"model = dict({model})\n").get(path) == value


@pytest.mark.parametrize(
    ("end", "key", "kind"),
    [
        ("custom_hooks[0]['x'] = 1\nSYSTEM = SYSTEM_TEMPLATE.coder\n", "SYSTEM", MISSING),
        ("visualizer = dict(type=Visualizer)\n", "visualizer", CHANGED),
        ("load_from = 'a.pth'\n", "load_from", MISSING),
        ("custom_hooks = [dict(type=MyHook, a=1)]\n", "custom_hooks[0].a", MISSING),
        ("randomness = dict(seed=None)\n", "randomness.seed", TAKEN),
        ("tokenizer = dict(pretrained_model_name_or_path='org/other')\n", "tokenizer.pretrained_model_name_or_path", TAKEN),
        ("model['lora']['bias'] = 'all'\n", "model.lora.bias", MISSING),
        ("model['llm']['trust_remote_code'] = True\n", "model.llm.trust_remote_code", CHANGED),
        ("model['llm']['odd'] = 1\n", "model.llm.odd", MISSING),
    ],
)  # fmt: skip
def test_what_differs_and_what_is_missing_is_listed(end: str, key: str, kind: str) -> None:
    assert kinds(read(LORA + end))[key] == kind


def test_the_system_text_goes_with_each_question() -> None:
    hook = "dict(type=EvaluateChatHook, evaluation_inputs=['Hi, you'], system='Be kind.')"
    prompts = read(LORA + f"custom_hooks = [{hook}]\n").get("eval_prompts")
    assert prompts == [{"question": "Hi, you", "system": "Be kind."}]
    named = hook.replace("'Be kind.'", "SYSTEM_TEMPLATE.coder")
    assert kinds(read(LORA + f"custom_hooks = [{named}]\n"))["custom_hooks[0].system"] == MISSING


@pytest.mark.parametrize(
    ("end", "key", "got"),
    [
        ("model = dict(type=InternVL_V1_5, model_path='org/model')", "model.type", "InternVL_V1_5"),
        ("model = 5", "model.type", None),
        ("model = dict(type=SupervisedFinetune, llm=make())", "model.llm", None),
        ("model = dict(type=RewardModel, llm=llm, loss_type='other')", "model.loss_type", "other"),
        ("model = dict(type=SupervisedFinetune, llm=dict())", "model.llm.pretrained_model_name_or_path", None),
        (LORA + "model['lora']['r'] = 'big'", "model.lora.r", "big"),
        (LORA + "optim_wrapper['optimizer']['lr'] = [1]", "optim_wrapper.optimizer.lr", [1]),
        (LORA + "train_cfg = 3", "train_cfg", 3),
    ],
)  # fmt: skip
def test_a_config_without_counterpart_is_one_error(end: str, key: str, got: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read(end)
    assert caught.value.key == key
    if got is not None:
        assert caught.value.got == got
