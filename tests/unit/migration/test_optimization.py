from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.optimization import import_optimizer, import_scheduler


def read(default: str = "linear", warmup: float = 0.0, **values: Any) -> Draft:
    draft = Draft("tool")
    arguments = Arguments(draft, values)
    import_optimizer(arguments)
    import_scheduler(arguments, default, warmup)
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({"optim": "adamw_torch_fused"}, "optimizer.type", "adamw"),
        ({"optim": "paged_adamw_32bit"}, "optimizer.type", "paged_adamw_8bit"),
        ({"optim": "lion_8bit"}, "optimizer.type", "adamw_8bit"),
        ({"optimizer": "lion"}, "optimizer.type", "adamw"),
        ({"adam_beta2": 0.95}, "optimizer.betas", [0.9, 0.95]),
        ({"lr_scheduler_type": "constant_with_warmup"}, "lr_scheduler.type", "constant"),
        ({"lr_scheduler": "rex"}, "lr_scheduler.type", "cosine"),
        ({"lr_scheduler": "cosine", "cosine_min_lr_ratio": 0.1}, "lr_scheduler.min_lr_ratio", 0.1),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "learning_rate": 1e-4, "lr_scheduler_kwargs": {"min_lr": 1e-5}},
            "lr_scheduler.min_lr_ratio",
            pytest.approx(0.1),
        ),
        ({"warmup_steps": 0.1}, "lr_scheduler.warmup_ratio", 0.1),
        ({"warmup_steps": 10, "warmup_ratio": 0.5}, "lr_scheduler", {"type": "linear", "warmup_steps": 10}),
        ({"warmup_steps": 0, "warmup_ratio": 0.5}, "lr_scheduler", {"type": "linear", "warmup_ratio": 0.5}),
        ({}, "lr_scheduler", {"type": "linear", "warmup_steps": 0}),
        ({"default": "cosine", "warmup": 0.03}, "lr_scheduler", {"type": "cosine", "warmup_ratio": 0.03}),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "lr_scheduler", {"type": "constant", "warmup_steps": 0}),
    ],
)  # fmt: skip
def test_arguments_have_their_place(values: dict[str, Any], path: str, value: object) -> None:
    assert read(**values).get(path) == value


@pytest.mark.parametrize(
    ("values", "key", "kind"),
    [
        ({"optim": "adamw_torch"}, "optim", TAKEN),
        ({"optim": "paged_adamw_32bit"}, "optim", CHANGED),
        ({"optim": "sgd"}, "optim", CHANGED),
        ({"optim": "muon", "adam_beta1": 0.8}, "adam_beta1", MISSING),
        ({"lr_scheduler": "rex"}, "lr_scheduler", CHANGED),
        ({"lr_scheduler": "linear", "cosine_min_lr_ratio": 0.1}, "cosine_min_lr_ratio", MISSING),
        ({"lr_scheduler": "constant", "warmup_ratio": 0.1}, "warmup_ratio", TAKEN),
    ],
)
def test_entries_say_what_became_of_a_key(values: dict[str, Any], key: str, kind: str) -> None:
    draft = read(**values)
    draft.close(())
    assert {entry.key: entry.kind for entry in draft.entries}[key] == kind
    assert draft.unexplained == []
