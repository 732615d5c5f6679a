"""Reading of run folders."""

from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.reporting import read_run


@pytest.mark.parametrize("exists", [True, False])
def test_read_run_refuses_other_folders(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "x"
    if exists:
        folder.mkdir()
    with pytest.raises(ConfigError) as error:
        read_run(folder)
    assert (error.value.key, error.value.got) == ("RUN", str(folder))


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ('eval_prompts = "data/questions.jsonl"', "data"),
        ("eval_prompts = [dict(question='What?', image='a.png')]", "."),
        ('eval_prompts = "xft://gone.jsonl"', "."),
        ("seed = 0", "."),
    ],
)
def test_images_of_questions_are_relative_to_their_file(tmp_path: Path, config: str, folder: str) -> None:
    (tmp_path / "config.py").write_text(config, encoding="utf-8")
    assert read_run(tmp_path).image_folder == Path(folder)


def test_warnings_are_read_with_the_lines_that_they_are_wrapped_into(tmp_path: Path) -> None:
    lines = [
        "warning   all answers of the 2 validation rows occur in training rows too: the",
        "          validation loss shows recall",
        "  validation at step 0: loss 4.4710",
        "warning: loss spike at step 5",
        "          adapter norms",
        "warning: loss spike at step 5",
    ]
    log = "".join(f"2026-11-30 00:07:42,636 {line}\n" for line in lines)
    (tmp_path / "train.log").write_text(log, encoding="utf-8")
    (tmp_path / "config.py").touch()
    assert read_run(tmp_path).warnings == [
        "all answers of the 2 validation rows occur in training rows too: the validation loss shows recall",
        "loss spike at step 5",
    ]
