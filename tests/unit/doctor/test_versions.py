"""Comparison of installed versions with the tested ranges."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from xft.doctor import Finding, versions

ROOT = Path(__file__).resolve().parents[3]


def level_and_fix(findings: Sequence[Finding], name: str) -> tuple[str, str]:
    [finding] = [finding for finding in findings if finding.name == name]
    return finding.level, finding.fix


@pytest.mark.parametrize("installed", ["2.9.1", "2.13.0+cpu"])
def test_check_versions_counts_a_tested_version(installed: str) -> None:
    [finding] = versions.check_versions({"runtime": ["torch>=2.6,<2.14"]}, {"torch": installed}.get)
    assert (finding.level, finding.text) == ("ok", "1 within the tested versions")


@pytest.mark.parametrize(
    ("installed", "level"),
    [("2.14.0", "warning"), ("3.0", "warning"), ("2.5.1", "broken"), (None, "broken")],
)
def test_check_versions_warns_of_newer_and_refuses_older(installed: str | None, level: str) -> None:
    findings = versions.check_versions({"runtime": ["torch>=2.6,<2.14"]}, {"torch": installed}.get)
    assert level_and_fix(findings, "torch") == (level, "pip install 'torch>=2.6,<2.14'")


def test_check_versions_of_an_extra_warns_and_ignores_a_missing_package() -> None:
    group = {"logging": ["wandb>=0.31,<0.32", "tensorboard>=2.20,<3"]}
    findings = versions.check_versions(group, {"wandb": "0.1"}.get)
    assert level_and_fix(findings, "wandb")[0] == "warning"
    assert "tensorboard" not in {finding.name for finding in findings}


def test_read_ranges_is_the_same_in_a_checkout_and_an_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Package metadata holds what setup.py read from the same files."""
    checkout = versions.read_ranges(ROOT)
    assert {"torch", "mmengine", "transformers"} <= {Requirement(text).name for text in checkout["runtime"]}
    # Metadata has another order of specifiers, and the extra as a marker.
    written = [str(Requirement(text)) for text in checkout["runtime"]]
    for extra in versions.EXTRAS:
        written += [f'{Requirement(text)}; extra == "{extra}"' for text in checkout[extra]]
    monkeypatch.setattr(metadata, "requires", lambda name: written if name == "xft-tuner" else None)
    installed = versions.read_ranges(tmp_path)
    assert {name: [Requirement(text) for text in group] for name, group in installed.items()} == {
        name: [Requirement(text) for text in group] for name, group in checkout.items()
    }
