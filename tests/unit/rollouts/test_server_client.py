"""Requests to a server: connections are closed, and text is an empty object. Retries: test_server_engine."""

from pathlib import Path

import pytest
from helpers.stand_in_server import stand_in_server

from xft.errors import ConfigError
from xft.rollouts.server_client import ServerClient


def test_json_is_returned_and_text_is_empty(tmp_path: Path) -> None:
    with stand_in_server(tmp_path) as (url, state), ServerClient(url, 5, 0, 1, None, "start it") as client:
        assert client.request("/v1/models") == {"data": [{"id": "base"}]}
        assert state.requests == [("/v1/models", {})]
        error = client.error("nothing", "something", "start it")
    assert str(error) == f"rollout.engine.url: {url} gave nothing; expected something. Start it"
    with pytest.raises(RuntimeError, match="closed"):
        client.request("/v1/models")


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFT_TEST_KEY", raising=False)
    with pytest.raises(ConfigError) as caught:
        ServerClient("http://127.0.0.1:9", 5, 0, 1, "XFT_TEST_KEY", "start it")
    assert caught.value.key == "rollout.engine.api_key_env"
