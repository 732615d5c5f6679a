"""Shared parts of the commands."""

import argparse
import gc

import pytest

from xft.commands.shared import (
    Command,
    add_load_in_bits,
    add_trust,
    importing,
    require_at_least,
)
from xft.errors import ConfigError


@pytest.mark.parametrize(
    ("examples", "note", "epilog"),
    [
        ((), "", ""),
        (("xft a", "xft b"), "", "examples:\n  xft a\n  xft b"),
        ((), "note", "note"),
        (("xft a",), "note", "examples:\n  xft a\n\nnote"),
    ],
)
def test_command_epilog_has_examples_then_note(examples: tuple[str, ...], note: str, epilog: str) -> None:
    assert Command("s", lambda parser: None, lambda arguments: None, examples, note).epilog == epilog


def import_missing_module() -> None:
    assert not gc.isenabled()
    raise ImportError


@pytest.mark.parametrize("enabled", [True, False])
def test_importing_restores_garbage_collection(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ImportError), importing():
            import_missing_module()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("value", [None, 1, 2, 1.5])
def test_require_at_least_accepts_the_minimum_and_none(value: float | None) -> None:
    require_at_least(argparse.Namespace(max_new_tokens=value), 1, "--max-new-tokens")


@pytest.mark.parametrize("value", [0, -1, 0.5, float("nan"), float("inf")])
def test_require_at_least_smaller_or_not_finite_raises(value: float) -> None:
    arguments = argparse.Namespace(limit=None, max_new_tokens=value)
    with pytest.raises(ConfigError) as error:
        require_at_least(arguments, 1, "--limit", "--max-new-tokens")
    assert (error.value.key, error.value.expected) == ("--max-new-tokens", "at least 1")


def test_added_options_are_off_by_default() -> None:
    parser = argparse.ArgumentParser()
    for add in (add_trust, add_load_in_bits):
        add(parser)
    assert vars(parser.parse_args([])) == {
        "trust_remote_code": False,
        "load_in_bits": None,
    }
