import pytest

from xft.config.foreign_keys import FOREIGN_KEYS
from xft.config.keys import config_keys
from xft.migration.argument_tables import COPIED, IGNORED, KEYS, SILENT
from xft.run_config.config import RunConfig


def test_each_key_is_in_one_table() -> None:
    copied = {key for key, path in {**FOREIGN_KEYS, **KEYS}.items() if path in COPIED}
    assert not SILENT & IGNORED.keys()
    assert not copied & IGNORED.keys()


def test_copied_keys_are_keys_of_xft() -> None:
    known = {key.path for key in config_keys(RunConfig)}
    named = {path.replace(".early_stopping.", ".NAME.") for path in COPIED}
    assert {path for path in named if path.count(".") == 1} <= known


@pytest.mark.parametrize(
    ("path", "value", "converted"),
    [
        ("optimizer.lr", "1e-4", 1e-4),
        ("training.max_steps", -1, None),
        ("training.max_grad_norm", 0, None),
        ("hooks.checkpoint.save_total_limit", 3, 3),
        ("seed", 42, 42),
    ],
)
def test_values_are_converted(path: str, value: object, converted: object) -> None:
    assert COPIED[path](value) == converted
