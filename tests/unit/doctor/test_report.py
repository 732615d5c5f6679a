"""Findings as lines for the terminal."""

from xft.doctor import Finding, format_findings


def test_format_findings_puts_the_fix_below() -> None:
    findings = [
        Finding("torch", "broken", "not installed", "pip install torch"),
        Finding("x", "ok", "fine"),
    ]
    assert format_findings(findings, color=False) == [
        "✗ torch  not installed",
        "         → pip install torch",
        "✓ x      fine",
    ]


def test_format_findings_color_adds_only_codes() -> None:
    findings = [Finding("torch", "broken", "not installed", "pip install torch")]
    colored = "\n".join(format_findings(findings, color=True))
    for code in ("\033[0m", "\033[1m", "\033[31m"):
        colored = colored.replace(code, "")
    assert colored == "\n".join(format_findings(findings, color=False))
