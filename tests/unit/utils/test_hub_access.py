"""What the hub refuses is explained."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from xft.errors import ConfigError
from xft.utils.hub_access import TIMEOUT, check_access, network_errors


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub at a closed port, without token and cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def probe(url: str, timeout: float) -> None:
        assert timeout == TIMEOUT
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", probe)


def refusal(name: str = "owner/name") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_access(name, "model", "model.path")
    assert caught.value.key == "model.path"
    return caught.value


def test_a_gated_model_names_its_page_and_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, GatedRepoError.__new__(GatedRepoError))
    fix = refusal().fix
    assert "http://127.0.0.1:9/owner/name" in fix
    assert "HF_TOKEN" in fix


def test_a_missing_model_may_be_private(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, RepositoryNotFoundError.__new__(RepositoryNotFoundError))
    assert "HF_TOKEN" in refusal().fix
    monkeypatch.setenv("HF_TOKEN", "x")
    assert "HF_TOKEN" not in refusal().fix


def test_a_hub_that_cannot_be_reached_names_the_mirror() -> None:
    assert "HF_ENDPOINT" in refusal().fix


def test_errors_of_the_network_are_those_of_the_client_of_the_hub() -> None:
    assert issubclass(HfHubHTTPError, network_errors()[0])
    assert {error.__name__ for error in network_errors()} == {
        "HTTPError",
        "InvalidURL",
        "ConnectionError",
        "TimeoutError",
    }


def test_an_error_of_the_server_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.args = ("503 Server Error",)
    answer(monkeypatch, error)
    assert "503 Server Error" in str(refusal())


def test_a_name_that_the_hub_does_not_accept_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, HFValidationError("no name"))
    assert "check the name" in refusal().fix.lower()


@pytest.mark.parametrize("fault", [AttributeError("a bug"), PermissionError("a file")])
def test_a_fault_that_is_not_of_the_network_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    answer(monkeypatch, fault)
    with pytest.raises(type(fault)):
        check_access("owner/name", "model", "model.path")


def test_a_file_that_is_absent_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, EntryNotFoundError("absent"))
    check_access("owner/name:config", "dataset", "data.path")


def test_nothing_is_asked_offline_or_if_it_is_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer(monkeypatch, AssertionError("asked"))
    (tmp_path / "models--owner--name" / "snapshots" / "a").mkdir(parents=True)
    check_access("owner/name", "model", "model.path")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check_access("owner/other", "model", "model.path")
