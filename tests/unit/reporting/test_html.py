"""Escaping in templates, and atomic writing of pages."""

from pathlib import Path

import pytest
from helpers.run_folders import write_run

from xft.errors import ConfigError
from xft.reporting import write_report
from xft.reporting.html import environment


def test_values_are_escaped_and_control_characters_pictured() -> None:
    template = environment().from_string("{{ value }}")
    value = "a\0b\rc\x7f\nd\te<&\"'\udc80"
    assert template.render(value=value) == "a␀b␍c␡\nd\te&lt;&amp;&#34;&#39;\\udc80"


def test_write_page_keeps_files_of_other_programs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0])
    (tmp_path / "mine.html").write_text("precious")
    with pytest.raises(ConfigError) as error:
        write_report(run, tmp_path / "mine.html")
    assert error.value.key == str(tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "precious"


def test_write_page_replaces_its_own_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.0])
    assert write_report(run, tmp_path / "page.html") == write_report(run, tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]
    with pytest.raises(ConfigError):
        write_report(run, tmp_path / "nowhere" / "page.html")
