"""Server process: model names and addresses."""

from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.serving.server.main import is_loopback, listen, model_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/a", "a"),
        ("runs/a/final", "a"),
        ("runs/a/checkpoints/last", "a"),
        ("Org/model", "model"),
        ("a/", "a"),
    ],
)
def test_model_name_is_the_name_of_the_run_folder(path: str, name: str) -> None:
    assert model_name(path) == name


def test_model_name_of_the_current_folder_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_name(".") == tmp_path.name


def test_is_loopback_for_local_and_other_hosts() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "192.168.1.2", "example.org"))


def test_listen_on_a_used_port_raises_config_error() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            listen("127.0.0.1", port)
    assert error.value.key == "--port"
    assert error.value.got == f"127.0.0.1:{port}"
