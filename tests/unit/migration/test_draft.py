from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.run_config.config import SECTION_ORDER
from xft.utils.presets import runtime_values


def test_set_makes_sections_and_get_reads_them() -> None:
    draft = Draft("tool", {"strategy": "ddp"})
    draft.set("adapter.r", 8)
    draft.set("strategy.device", "cpu")
    assert draft.get("adapter.r") == 8
    assert draft.get("strategy") == {"type": "ddp", "device": "cpu"}
    assert draft.get("model.path") is None


def test_a_default_is_set_once_and_named() -> None:
    draft = Draft("tool", {"training": {"max_grad_norm": None}})
    draft.default("max_norm", "training.max_grad_norm", 1.0)
    draft.default("seed", "seed", 42)
    draft.default("seed", "seed", 43)
    assert draft.values == {"training": {"max_grad_norm": None}, "seed": 42}
    assert [entry.text for entry in draft.entries] == ["seed = 42 (the default of tool)"]


def test_accepts_asks_the_component() -> None:
    draft = Draft("tool", {"optimizer": {"type": "muon"}, "adapter": None})
    assert not draft.accepts("optimizer.betas")
    assert draft.accepts("optimizer.weight_decay")
    assert not draft.accepts("adapter.r")
    assert not draft.accepts("objective.beta")  # without an objective, it is sft
    assert draft.accepts("training.epochs")


def test_finish_adds_the_hooks_of_every_run_in_the_order_of_other_configs() -> None:
    draft = Draft("tool", {"seed": 1, "model": {"type": "causal_lm"}})
    draft.set("hooks.early_stopping.patience", 2)
    draft.set("hooks.checkpoint.interval", 5)
    config = draft.finish()
    assert list(config) == [key for key in SECTION_ORDER if key in config]
    assert {"model", "template", *runtime_values()} == config.keys()
    assert list(config["hooks"]) == [*runtime_values()["hooks"], "early_stopping"]
    assert config["hooks"]["checkpoint"] == {"type": "checkpoint", "interval": 5}
    assert config["seed"] == 1


def test_every_key_without_an_entry_is_listed_as_missing() -> None:
    draft = Draft("tool", keys=dict.fromkeys(("a", "b", "section.c", "section.quiet", "d")))
    draft.read = {"b"}
    draft.note(("a", "d"), "both")
    draft.close({"quiet"})
    missing = [entry.key for entry in draft.entries if entry.kind == MISSING]
    assert missing == ["b", "section.c"]
    assert draft.unexplained == ["b"]


def test_table_groups_the_keys() -> None:
    draft = Draft("tool")
    draft.miss("c", "why")
    draft.take("a", "training.epochs", 2)
    draft.change(("b", "bb"), "how")
    assert [entry.kind for entry in draft.entries] == [MISSING, TAKEN, CHANGED]
    assert list(draft.table()) == [
        "taken over:",
        "  a      training.epochs = 2",
        "different:",
        "  b, bb  how",
        "without counterpart:",
        "  c      why",
    ]
