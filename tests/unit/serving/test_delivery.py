"""Clients that leave: their answers stop, and slots are free again."""

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from fastapi import Request
from helpers.servers import running_server

from xft.serving.server.protocol import ChatCompletionRequest
from xft.serving.server.service import Service

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def _wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
    return True


def test_client_that_leaves_stops_its_answer(service: Service) -> None:
    """Also without streaming, and while tokens are being generated."""
    long = {**CHAT, "max_tokens": 2000, "temperature": 9, "seed": 1}
    submitted: list[Any] = []
    submit = service.batcher.submit
    service.batcher.submit = lambda requests: (submitted.extend(requests), submit(requests))[1]  # type: ignore[method-assign]
    with running_server(service) as address:
        for stream in (False, True):
            with httpx.Client(base_url=address) as client:
                thread = threading.Thread(target=_ignore_errors, args=(client, {**long, "stream": stream}))
                submitted.clear()
                thread.start()
                assert _wait_until(lambda: bool(submitted and submitted[0].generated))
                client.close()
                assert _wait_until(lambda: submitted[0].done, 5)
                thread.join(10)
            assert len(submitted[0].generated) < 2000


def test_client_that_left_before_the_first_chunk_stops_its_answer(service: Service) -> None:
    submitted: list[Any] = []
    submit = service.batcher.submit
    service.batcher.submit = lambda requests: (submitted.extend(requests), submit(requests))[1]  # type: ignore[method-assign]
    body = ChatCompletionRequest.model_validate({**CHAT, "max_tokens": 2000, "n": 2, "stream": True})

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    async def respond() -> None:
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        response = await service.complete_chat(body, Request(scope))
        await response(scope, receive, send)

    asyncio.run(respond())
    assert [request.done for request in submitted] == [True, True]


def _ignore_errors(client: httpx.Client, body: dict[str, Any]) -> None:
    try:
        client.post("/v1/chat/completions", json=body, timeout=60)
    except (httpx.HTTPError, RuntimeError):
        return


def test_clients_that_leave_at_random_moments_free_slots_and_memory(service: Service) -> None:
    choose = random.Random(0)
    with running_server(service) as address:
        host, port = address.removeprefix("http://").split(":")

        def leave_early(number: int) -> None:
            body = {
                **CHAT,
                "max_tokens": 500,
                "temperature": 9,
                "stream": number % 2 == 0,
                "n": 1 + number % 3,
            }
            content = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            data = head.encode() + content
            with socket.create_connection((host, int(port))) as connection:
                if number % 5 == 0:
                    data = data[: choose.randrange(len(data))]
                connection.sendall(data)
                connection.settimeout(choose.random() * 0.3)
                try:
                    connection.recv(choose.choice((1, 10_000)))
                except TimeoutError:
                    return

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(leave_early, range(60)))
        assert _wait_until(lambda: not service.batcher.num_unfinished())
        with httpx.Client(base_url=address, timeout=60) as client:
            responses = [client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 200]
