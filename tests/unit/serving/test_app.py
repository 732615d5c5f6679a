"""HTTP application: access control, bad values in every field, bad bodies."""

import asyncio
import json
import socket
import time
from typing import Any

import httpx
import pytest
from helpers.generators import CHATML, FixedAnswerGenerator
from helpers.servers import running_server
from pydantic import BaseModel

from xft.models import TextGenerator
from xft.sandbox import isolation
from xft.serving.server import request_body
from xft.serving.server.app import create_app
from xft.serving.server.batcher import Batcher
from xft.serving.server.protocol import ChatCompletionRequest, TextCompletionRequest
from xft.serving.server.service import Limits, Service

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
TEXT: dict[str, Any] = {"model": "m", "prompt": "Hi", "max_tokens": 2}
DEEP: Any = json.loads("[" * 200 + "]" * 200)
BAD_VALUES: dict[str, Any] = {
    "null": None,
    "object": {"a": 1},
    "boolean": True,
    "empty text": "",
    "empty list": [],
    "zero": 0,
    "negative": -1,
    "huge number": 10**400,
    "nan": float("nan"),
    "infinity": float("inf"),
    "surrogate": "a\ud800",
    "control characters": "\033[2J\u202e\0",
    "deep": DEEP,
    "1 MB": "a" * 1_000_000,
    "many items": [{"role": "user", "content": "x"}] * 2000,
}
VALID = {
    "stream": {"null", "boolean"},
    "store": {"null", "boolean"},
    "frequency_penalty": {"null", "zero"},
    "presence_penalty": {"null", "zero"},
    "user": {"null", "empty text", "control characters"},
    "metadata": {"null"},
    "seed": {"null", "zero", "negative"},
    "temperature": {"null", "zero"},
    "top_p": {"null"},
    "stop": {"null", "empty text", "empty list", "control characters"},
    "tools": {"null", "empty list"},
    "suffix": {"null", "empty text"},
    "prompt": {"control characters"},
    "chat_template_kwargs": {"null", "object"},
    "parallel_tool_calls": {"null", "boolean"},
    "model": set[str](),
    "messages": set[str](),
}
"""Names of bad values that are valid for a field; for other fields, ``null``."""


@pytest.mark.parametrize("model", [ChatCompletionRequest, TextCompletionRequest])
def test_bad_value_of_any_field_is_reported_with_the_field(
    model: type[BaseModel], service: Service
) -> None:
    """Each in less than a second of CPU time, and the server answers a normal request afterwards."""
    service.limits = Limits(4096, 4, 4)
    path, valid_body = (
        ("/v1/chat/completions", CHAT) if model is ChatCompletionRequest else ("/v1/completions", TEXT)
    )

    async def check_all() -> None:
        transport = httpx.ASGITransport(app=create_app(service, None, None), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            for field in model.model_fields:
                for name, value in BAD_VALUES.items():
                    start = time.process_time()
                    response = await _post(client, path, {**valid_body, field: value})
                    seconds = time.process_time() - start
                    case = (field, name, response.status_code, response.text[:200])
                    assert seconds < 1, (*case, seconds)
                    if name in VALID.get(field, {"null"}):
                        assert response.status_code == 200, case
                        continue
                    assert 400 <= response.status_code < 500, case
                    error = response.json()["error"]
                    assert set(error) == {"message", "type", "param", "code"}
                    assert error["param"] == field, case
                    assert error["message"].startswith(field), case
                    assert len(error["message"]) < 500, case
            assert (await _post(client, path, valid_body)).status_code == 200

    asyncio.run(check_all())


@pytest.mark.parametrize(
    "message",
    [
        {"role": "a" * 1_000_000, "content": "x"},
        {"role": "user", "content": {"a": "b" * 1_000_000}},
        {"role": "user", "content": [{"type": "text"}] * 20_000},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "[" * 900_000}]},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a":' * 900 + "1" + "}" * 900}]},
        {"role": "tool", "content": "x", "tool_call_id": "a" * 1_000_000},
    ],
)
def test_bad_message_is_reported(message: dict[str, Any], service: Service) -> None:
    body = {**CHAT, "messages": [message, {"role": "user", "content": "x"}]}

    async def check() -> None:
        transport = httpx.ASGITransport(app=create_app(service, None, None), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            start = time.process_time()
            response = await _post(client, "/v1/chat/completions", body)
            assert time.process_time() - start < 1
            assert response.status_code == 400
            assert response.json()["error"]["message"].startswith("messages")
            assert response.json()["error"]["param"] == "messages"

    asyncio.run(check())


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return await client.post(path, content=json.dumps(body), headers=headers, timeout=60)


def test_bad_body_is_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "READ_TIMEOUT_S", 0.2)
    long = b'{"model": "' + b"a" * (1 << 20) + b'"}'
    with running_server(service) as address, httpx.Client(base_url=address) as client:

        def post(content: Any, content_type: str = "application/json") -> tuple[int, str]:
            response = client.post(
                "/v1/chat/completions", content=content, headers={"content-type": content_type}
            )
            return response.status_code, response.json()["error"]["message"]

        assert post(b"[" * 900_000)[0] == 400
        assert post(b"{}", "text/plain")[0] == 415
        assert post(b"{}", "multipart/form-data; boundary=x")[0] == 415
        status, message = post(long)
        assert status == 413
        assert "1,048,576" in message
        assert post(iter([long[:100], long[100:]]))[0] == 413

        with socket.create_connection(address.removeprefix("http://").split(":")) as slow:  # type: ignore[arg-type]
            slow.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert b"408" in slow.recv(100)
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_slow_template_blocks_no_other_request(
    make_byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(isolation, "MAX_SECONDS", 2.0)
    tokenizer = make_byte_tokenizer("{% if messages | length > 2 %}" + endless + "{% endif %}" + CHATML)
    batcher = Batcher(4, 8)
    service = Service({"m": FixedAnswerGenerator(tokenizer, "Hello")}, batcher, Limits(4096, 8, 4))
    slow = {**CHAT, "messages": CHAT["messages"] * 3}

    async def send_all() -> list[tuple[int, float]]:
        transport = httpx.ASGITransport(app=create_app(service, None, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

            async def send(body: dict[str, Any]) -> tuple[int, float]:
                response = await _post(client, "/v1/chat/completions", body)
                return response.status_code, time.perf_counter()

            return await asyncio.gather(send(slow), *(send(CHAT) for _ in range(3)))

    (slow_status, slow_end), *others = asyncio.run(send_all())
    batcher.close()
    assert slow_status == 400
    assert [status for status, _ in others] == [200, 200, 200]
    assert all(end < slow_end for _, end in others)


def test_api_key_is_required_for_the_api_only(generator: TextGenerator) -> None:
    batcher = Batcher(1, 1)
    app = create_app(Service({"m": generator}, batcher, Limits(64, 8, 1)), "secret", None)

    async def request_all() -> list[tuple[int, Any]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            all_headers: list[dict[str, str]] = [
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer ö"},
                {"Authorization": "Bearer secret"},
            ]
            responses = [
                await client.get(
                    "/v1/models", headers=[(key, value.encode()) for key, value in headers.items()]
                )
                for headers in all_headers
            ]
            responses.append(await client.get("/health"))
            return [(response.status_code, response.json()) for response in responses]

    results = asyncio.run(request_all())
    batcher.close()
    assert [status for status, _ in results] == [401, 401, 401, 200, 200]
    assert results[0][1]["error"]["code"] == "invalid_api_key"
    assert "secret" not in str(results[:3])
