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
