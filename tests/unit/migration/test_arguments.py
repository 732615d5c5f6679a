import pytest

from xft.errors import ConfigError
from xft.migration.arguments import COMPUTED, Arguments
from xft.migration.draft import MISSING, TAKEN, Draft
from xft.migration.python_values import Name
from xft.migration.values import number, whole


def entries(draft: Draft) -> list[tuple[str, str, str]]:
    return [(entry.key, entry.kind, entry.text) for entry in draft.entries]


def test_the_first_of_several_names_has_priority_and_the_others_are_listed() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"b": 1, "c": 2})
    assert values.find("a", "b") == "b"
    assert values.take("x.y", number, "a", "b", "c") == 1.0
    assert draft.get("x.y") == 1.0
    assert entries(draft) == [("c", TAKEN, "b has priority"), ("b", TAKEN, "x.y = 1.0")]
    assert draft.read == {"b", "c"}


def test_keys_without_a_value_are_not_set() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"a": None, "b": ""})
    assert "a" not in values
    assert values.read(number, "b") is None
    draft.close(())
    assert draft.entries == []


def test_a_wrong_value_is_an_error_with_the_full_name() -> None:
    values = Arguments(Draft("tool"), {"trl": {"beta": "much"}})
    with pytest.raises(ConfigError) as caught:
        values.section("trl").read(number, "beta")
    assert (caught.value.key, caught.value.got, caught.value.expected) == ("trl.beta", "much", "a number")
    with pytest.raises(ConfigError) as caught:
        Arguments(Draft("tool"), {"trl": 5}).section("trl")
    assert caught.value.key == "trl"


def test_keys_of_a_section_need_entries_in_place_of_it() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"a": {"b": 1, "c": 2}, "json": '{"d": 3}', "empty": {}, "parts": [{"e": 4}]})
    values.section("a").note("seen", "b")
    values.section("json")
    values.section("empty")
    values.sections("parts")
    draft.close(())
    kinds = {entry.key: entry.kind for entry in draft.entries}
    assert kinds == {"a.b": TAKEN, "empty": TAKEN, "a.c": MISSING, "json.d": MISSING, "parts[0].e": MISSING}


def test_a_value_that_code_computes_is_listed() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"a": Name("f()"), "b": Name("g()")})
    assert values.read(whole, "a") is None
    assert values.section("b").unread == []
    assert entries(draft) == [("a", MISSING, COMPUTED), ("b", MISSING, COMPUTED)]


def test_switches_that_are_off_are_listed() -> None:
    draft = Draft("tool")
    values = Arguments(draft, {"a": False, "b": "true"})
    assert not values.is_on("a")
    assert values.is_on("b")
    assert not values.is_on("c")
    assert entries(draft) == [("a", TAKEN, "off")]
