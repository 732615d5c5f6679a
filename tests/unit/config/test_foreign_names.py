"""Names of components in other tools."""

import pytest

from xft.config import check, load_config
from xft.config.foreign_names import FOREIGN_NAMES, advice
from xft.errors import ConfigError
from xft.registry import list_registered
from xft.run_config.config import RunConfig
from xft.utils import paths


@pytest.mark.parametrize(
    ("key", "name", "text"),
    [
        ("optimizer", "adamw_hf", "in xft this is 'adamw'"),
        ("objective", "pt", "in xft this is 'pretrain'"),
        ("data", "pt", "in xft this is 'text'"),
        ("optimizer", "adamw", ""),
        ("no_such_key", "pt", ""),
    ],
)
def test_advice_translates_foreign_names_of_the_same_key_only(key: str, name: str, text: str) -> None:
    assert advice(key, name) == text


@pytest.mark.parametrize("key", FOREIGN_NAMES)
def test_foreign_names_are_unknown_and_their_targets_registered(key: str) -> None:
    names = list_registered(key)
    assert set(FOREIGN_NAMES[key].values()) <= set(names)
    assert not set(FOREIGN_NAMES[key]) & set(names)


def test_check_names_the_component_of_a_foreign_name() -> None:
    config = {**load_config(paths.configs() / "smollm2_lora.py"), "optimizer": "adamw_torch"}
    with pytest.raises(ConfigError) as caught:
        check(config, RunConfig)
    (cause,) = caught.value.causes
    assert (cause.key, cause.got, cause.fix) == ("optimizer.type", "adamw_torch", "in xft this is 'adamw'")
