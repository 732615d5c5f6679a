"""Server process: model names and addresses."""

import socket
from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.serving.server.main import ServeOptions, is_loopback, listen, model_name, serve


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
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            listen("127.0.0.1", port)
    assert error.value.key == "--port"
    assert error.value.got == f"127.0.0.1:{port}"


def test_serve_on_a_used_port_fails_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(
        "xft.serving.server.main.open_session", lambda *args, **options: loaded.append(args)
    )
    with listen("127.0.0.1", 0) as listener, pytest.raises(ConfigError):
        serve(ServeOptions("runs/a", port=listener.getsockname()[1]))
    assert loaded == []


@pytest.mark.parametrize("port", [-1, 65_536, 70_000, 10**30])
def test_listen_on_a_port_out_of_range_raises_config_error(port: int) -> None:
    with pytest.raises(ConfigError) as error:
        listen("127.0.0.1", port)
    assert (error.value.key, error.value.got) == ("--port", port)


@pytest.mark.parametrize("host", ["", "no such host", "a" * 300, "\udcff", "256.0.0.1"])
def test_listen_on_an_invalid_host_raises_config_error(host: str) -> None:
    with pytest.raises(ConfigError):
        listen(host, 0)


def test_clients_can_connect_before_the_model_is_loaded() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == listener.getsockname()
