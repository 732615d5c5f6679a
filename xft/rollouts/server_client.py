"""HTTP client of an inference server, with retries and errors that state the server."""

import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from xft.errors import ConfigError, TrainingError

KEY = "rollout.engine"
_RETRIED = (429, 502, 503, 504)


class ServerClient:
    """Send requests to a server. As a context manager, the client closes its connections.

    Args:
        url: address of the server.
        timeout: timeout in seconds of connecting, and of waiting for the response to one request.
        retries: maximum number of retries of a request after a transport error, a timeout or a status of 429, 502, 503 or
            504. The back-off is exponential: 1, 2, 4, ... seconds.
        max_connections: maximum number of concurrent requests.
        api_key_env: environment variable with the API key; ``None`` for no key.
        hint: instruction to start the server, for messages.

    Raises:
        ConfigError: the environment variable with the API key is not set.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        retries: int,
        max_connections: int,
        api_key_env: str | None,
        hint: str,
    ) -> None:
        headers = {}
        if api_key_env is not None:
            key = os.environ.get(api_key_env)
            if not key:
                raise ConfigError(
                    key=f"{KEY}.api_key_env", got=api_key_env, expected="a variable of the environment"
                )
            headers["Authorization"] = f"Bearer {key}"
        self._url, self._retries, self._hint = url, retries, hint
        limits = httpx.Limits(max_connections=max_connections)
        self._client = httpx.Client(base_url=url, timeout=timeout, headers=headers, limits=limits)

    def __enter__(self) -> "ServerClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def request(
        self, path: str, body: Mapping[str, Any] | None = None, retries: int | None = None
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of the response; ``{}`` for any other content.

        Args:
            path: path of the request.
            body: JSON body of a POST request; ``None`` sends a GET request.
            retries: maximum number of retries; by default that of the client.

        Raises:
            TrainingError: the request failed, after the retries.
        """
        retries = self._retries if retries is None else retries
        for attempt in range(retries + 1):
            if attempt:
                time.sleep(2.0 ** (attempt - 1))
            try:
                response = self._client.get(path) if body is None else self._client.post(path, json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__} {error}".strip()
                continue
            reason = f"status {response.status_code}: {' '.join(response.text.split())[:300]}"
            if response.status_code not in _RETRIED:
                break
        else:
            raise self.error(f"{reason} ({path}, {retries + 1} attempts)", "a response", self._hint)
        if response.is_error:
            raise self.error(f"{reason} ({path})", "a response", self._hint)
        try:
            content = response.json()
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def error(self, got: str, expected: str, fix: str = "") -> TrainingError:
        """Return an error about a response of the server, to be raised."""
        fix = f". {fix[:1].upper()}{fix[1:]}" if fix else ""
        return TrainingError(
            f"{KEY}.url: {self._url} gave {got}; expected {expected}{fix}", key=f"{KEY}.url", got=got
        )
