"""Keys of other tools, and their places in a config."""

import re
from functools import cache

import pytest

from xft import cli
from xft.config import check, load_config, parse_overrides
from xft.config.foreign_keys import FOREIGN_KEYS, advice, translate
from xft.config.keys import config_keys
from xft.errors import ConfigError
from xft.registry import list_registered
from xft.run_config.config import RunConfig
from xft.utils import paths


@cache
def known_paths() -> set[str]:
    paths_of_keys = {key.path for key in config_keys(RunConfig)}
    parents = {path.rpartition(".")[0] for path in paths_of_keys}
    return paths_of_keys | parents | {f"{parent}.type" for parent in parents}


def options_of_train() -> set[str]:
    actions = cli.build_parser()._subparsers._group_actions[0].choices["train"]._actions  # type: ignore[union-attr, call-overload, index]
    return {option for action in actions for option in action.option_strings}


@pytest.mark.parametrize("target", sorted(set(FOREIGN_KEYS.values())))
def test_target_exists_in_the_signatures_of_xft(target: str) -> None:
    for place in re.split(" or | and ", target):
        path, _, value = place.partition("=")
        if path.startswith("--"):
            assert path in options_of_train()
        else:
            assert path in known_paths()
        if path.endswith(".type") and value:
            assert value.strip("'") in list_registered(path.removesuffix(".type"))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("per_device_train_batch_size", "training.micro_batch_size"),
        ("training.per_device_train_batch_size", "training.micro_batch_size"),
        ("training.batch_size", "training.micro_batch_size"),
        ("training.accumulation", "training.gradient_accumulation_steps"),
        ("model.adapter.r", "adapter.r"),
        ("model.adapter.alpha", "adapter.lora_alpha"),
        ("cutoff_len", "data.max_length"),
        ("load_in_4bit", "quantization.type='nf4'"),
        ("training.router_aux_loss_coef", "model.router_aux_loss_coef"),
        ("moe_aux_loss_coef", "model.router_aux_loss_coef"),
        ("adapter.target_parameters", "adapter.target_modules"),
        ("model.router_aux_loss_coef", None),
        ("resume_from_checkpoint", "--resume"),
        ("adapter.r", None),
        ("no_such_key", None),
        ("data.no_such_key", None),
    ],
)
def test_translate_prefers_whole_paths_then_sections_then_last_parts(path: str, target: str | None) -> None:
    assert translate(path) == target
    assert advice(path) == (f"in xft this is {target}" if target else "")


def test_check_names_the_place_of_a_foreign_key() -> None:
    config = load_config(paths.configs() / "smollm2_lora.py")
    config = {**config, "per_device_train_batch_size": 4}
    config["data"] = {**config["data"], "cutoff_len": 512}
    with pytest.raises(ConfigError) as caught:
        check(config, RunConfig)
    causes = {cause.key: cause.fix for cause in caught.value.causes}
    assert causes == {
        "per_device_train_batch_size": "in xft this is training.micro_batch_size",
        "data.cutoff_len": "in xft this is data.max_length",
    }
    assert "cutoff_len: unknown key; in xft this is data.max_length" in str(caught.value)


def test_override_of_a_moved_section_names_its_new_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(paths.configs() / "smollm2_lora.py", parse_overrides(["model.adapter.alpha=8"]))
    (cause,) = caught.value.causes
    assert (cause.key, cause.fix) == ("model.adapter.alpha", "in xft this is adapter.lora_alpha")
