import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from helpers import jinja_sources
from helpers.generators import ScriptedGenerator

from xft.models import TextGenerator
from xft.serving.server.app import create_app
from xft.serving.server.batcher import Batcher
from xft.serving.server.prompt_encoding import encode_chat
from xft.serving.server.service import Limits, Service
from xft.templates import ChatTemplate

Post = Callable[..., httpx.Response]
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "ab"}
LIMITS = Limits(context_length=64, max_new_tokens=8, max_choices=3)


@pytest.fixture(scope="module")
def post(generator: TextGenerator) -> Iterator[Post]:
    """Post a body to an app without a server."""
    batcher = Batcher(4, 6)
    app = create_app(Service({"m": generator}, batcher, LIMITS), None, None)

    def send(path: str, body: dict[str, Any]) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.post(f"/v1/{path}", json=body)

        return asyncio.run(run())

    yield send
    batcher.close()


def _events(response: httpx.Response) -> list[Any]:
    """Return the objects of a stream, which ends with ``[DONE]``."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_chat_answers_like_the_generator(post: Post, generator: TextGenerator) -> None:
    from xft.types import Message

    [expected] = generator.answer([[Message("user", "Hi")]], max_new_tokens=8)
    body = post("chat/completions", CHAT).json()
    [choice] = body["choices"]
    assert choice["message"]["content"] == expected.text
    assert choice["finish_reason"] == expected.finish_reason
    assert body["usage"]["completion_tokens"] == expected.num_tokens
    assert body["usage"]["prompt_tokens"] == len(generator.encode([Message("user", "Hi")]))


@pytest.mark.parametrize(("path", "body"), [("chat/completions", CHAT), ("completions", TEXT)])
def test_stream_adds_up_to_the_full_answer(path: str, body: dict[str, Any], post: Post) -> None:
    [choice] = post(path, body).json()["choices"]
    events = _events(post(path, {**body, "stream": True, "stream_options": {"include_usage": True}}))
    usage = events.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    parts = [event["choices"][0] for event in events]
    if path == "completions":
        assert "".join(part["text"] for part in parts) == choice["text"]
    else:
        assert "".join(part["delta"]["content"] for part in parts) == choice["message"]["content"]
    assert [part["finish_reason"] for part in parts[-1:]] == [choice["finish_reason"]]


def test_choices_with_a_seed_differ_and_repeat(post: Post) -> None:
    body = {**TEXT, "n": 2, "seed": 5, "temperature": 2.0}
    first, again = (
        [choice["text"] for choice in post("completions", body).json()["choices"]] for _ in range(2)
    )
    assert first == again
    assert first[0] != first[1]
    single = {**body, "n": 1, "seed": 6}
    assert post("completions", single).json()["choices"][0]["text"] == first[1]


def test_one_choice_per_prompt_in_order(post: Post) -> None:
    texts = ["ab", "cd"]
    both = post("completions", {**TEXT, "prompt": texts}).json()["choices"]
    single = [post("completions", {**TEXT, "prompt": text}).json()["choices"][0]["text"] for text in texts]
    assert [choice["text"] for choice in both] == single


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("completions", {**TEXT, "model": "other"}, 404, "model"),
        ("completions", {**TEXT, "n": 4}, 400, "n"),
        ("completions", {**TEXT, "prompt": ["a", "b"], "n": 2}, 400, "n"),
        ("completions", {**TEXT, "max_tokens": 9}, 400, "max_tokens"),
        ("completions", {**TEXT, "prompt": ""}, 400, "prompt"),
        ("completions", {**TEXT, "prompt": "x" * 64}, 400, "prompt"),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "user", "content": "x" * 64}]},
            400,
            "messages",
        ),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "assistant", "content": "x"}]},
            400,
            "messages",
        ),
        ("chat/completions", {**CHAT, "messages": [{"role": "user"}]}, 400, "messages"),
    ],
)
def test_request_over_a_limit_is_an_error_with_its_field(
    path: str, body: dict[str, Any], status: int, param: str, post: Post
) -> None:
    response = post(path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_default_max_tokens_is_what_the_context_leaves(post: Post) -> None:
    body = post("completions", {**TEXT, "prompt": "x" * 60}).json()
    assert body["usage"]["completion_tokens"] <= 4


def test_full_queue_is_an_error_that_can_be_retried(generator: TextGenerator) -> None:
    batcher = Batcher(1, 1)
    app = create_app(Service({"m": generator}, batcher, LIMITS), None, None)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post("/v1/completions", json={**TEXT, "n": 3})

    response = asyncio.run(send())
    batcher.close()
    assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_conversations_without_a_system_message_get_that_of_the_service(generator: TextGenerator) -> None:
    batcher = Batcher(1, 6)
    app = create_app(Service({"m": generator}, batcher, Limits(256, 8, 3), system="Be brief."), None, None)

    async def count(messages: list[dict[str, str]]) -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            body = {**CHAT, "messages": messages, "max_tokens": 1}
            response = await client.post("/v1/chat/completions", json=body)
        return int(response.json()["usage"]["prompt_tokens"])

    ask, system = {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}
    counts = [asyncio.run(count(messages)) for messages in ([ask], [system, ask])]
    batcher.close()
    assert counts[0] == counts[1] > len("Be brief.")


def test_chat_template_kwargs_are_passed_to_the_template(make_byte_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_byte_tokenizer(specials=jinja_sources.SPECIALS)
    template = ChatTemplate(jinja_sources.OPENED_THOUGHT).bind(tokenizer)
    generator = ScriptedGenerator(lambda messages: "", template)
    for thinking, end in ((False, "<think>\n\n</think>\n\n"), (True, "assistant\n<think>\n")):
        ids = encode_chat(generator, CHAT["messages"], [], 999, {"enable_thinking": thinking}).ids
        assert tokenizer.decode(ids).endswith(end)


def test_chat_template_kwargs_invalid_are_refused(post: Post) -> None:
    response = post("chat/completions", {**CHAT, "chat_template_kwargs": {"messages": []}})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "chat_template_kwargs"
    assert (
        post("chat/completions", {**CHAT, "chat_template_kwargs": {"enable_thinking": False}}).status_code
        == 200
    )
