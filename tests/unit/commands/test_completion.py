"""What a shell offers after a tab: asked of the shells themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from xft import cli
from xft.commands import completion

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with configs, runs and rows, and a command ``xft`` in ``bin``."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("configs/small.py", "configs/_base_/model.py", "mine.py", "my_rows.jsonl", "ds.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("runs/first", "runs/second", "old_run"):
        (folder / name).mkdir(parents=True)
        for file in ("config.py", "metrics.jsonl"):
            (folder / name / file).touch()
    (folder / "model").mkdir()
    (folder / "model" / "config.json").touch()
    (folder / "bin").mkdir()
    command = folder / "bin" / "xft"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m xft "$@"\n')
    command.chmod(0o755)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "TERM": "dumb",
        "HOME": str(place),
    }


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} on this machine")
    return found


TYPED = [
    ("xft trai", "xft train"),
    ("xft train --dry", "xft train --dry-run"),
    ("xft train confi", "xft train configs/small.py"),
    ("xft chat runs/fi", "xft chat runs/first"),
    ("xft eval old", "xft eval old_run"),
    ("xft copy smollm2_lo", "xft copy smollm2_lora"),
    ("xft convert old_run out --dtype bf", "xft convert old_run out --dtype bfloat16"),
    ("xft eval old_run --data my_", "xft eval old_run --data my_rows.jsonl"),
]
"""What is typed before a tab, and what stands there after it."""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab_completes_what_is_typed(shell: str, place: Path) -> None:
    program = needs(shell)
    flags = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[shell]
    begin = {"bash": "", "zsh": "autoload -U compinit; compinit -D -u; "}[shell]
    child = pexpect.spawn(
        program,
        flags,
        cwd=str(place),
        env=environment(place),
        encoding="utf-8",
        timeout=20,
        dimensions=(24, 200),
    )
    try:
        # What is completed is shown by making it the argument of a function, and not run.
        child.sendline(f'{begin}shown() {{ echo "<$*>"; }}; eval "$(xft completion {shell})"; echo be""gin')
        child.expect("begin")
        for typed, wanted in TYPED:
            child.send(f"{typed}\t\x01shown \x05\r")
            child.expect(r"<(xft[^<>\r\n]*)>")
            assert child.match is not None
            assert child.match[1].rstrip() == wanted
    finally:
        child.close(force=True)


def test_fish_offers_the_same(place: Path) -> None:
    program = needs("fish")
    asked = "; ".join(f"complete -C '{typed}'; echo END" for typed, _ in TYPED)
    done = subprocess.run(
        [program, "--no-config", "-c", f"xft completion fish | source; {asked}"],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    offered = [
        {line.split("\t")[0] for line in part.strip().splitlines()}
        for part in done.stdout.split("END\n")[:-1]
    ]
    for (typed, wanted), found in zip(TYPED, offered, strict=True):
        last = wanted.rpartition(" ")[2]
        assert last in found, typed


@pytest.mark.parametrize(
    ("completer", "prefix", "wanted"),
    [
        (completion.configs, "", ["bin/", "configs/small.py", "mine.py", "model/", "old_run/", "runs/"]),
        (completion.runs, "", ["old_run", "runs/first", "runs/second"]),
        (completion.runs, "runs/s", ["runs/second"]),
        (completion.runs, "mod", ["model/"]),
        (completion.saved, "", ["model", "old_run", "runs/first", "runs/second"]),
        (completion.runs, "no/such/", []),
    ],
)
def test_what_fits_is_offered(
    completer: completion.Completer,
    prefix: str,
    wanted: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    assert completer(prefix) == wanted
    assert completer(f"{place}/{prefix}") == [f"{place}/{each}" for each in wanted]


def test_every_argument_has_something_that_fits_it() -> None:
    """A new metavar must be given a line, or nothing but files would be offered for it."""
    known = {metavar for _, metavar in completion._COMPLETERS}
    for name, command in completion._commands(cli.build_parser()):
        for action in command._actions:
            if action.nargs != 0 and action.choices is None:
                assert action.metavar in known, f"{name}: {action.dest}"


def test_deepspeed_presets_are_those_of_the_strategy() -> None:
    from xft.run_config.strategy_options import PRESETS

    assert tuple(PRESETS) == completion.DEEPSPEED_PRESETS
