from pathlib import Path

import pytest
import torch

from xft.errors import ModelError
from xft.models.gguf_loading import load_gguf


@pytest.mark.parametrize("content", [b"", b"no GGUF file\nat all"])
def test_load_gguf_of_corrupt_file_raises_model_error_in_one_line(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_gguf(file, torch.float32)
    assert error.value.key == str(file)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
