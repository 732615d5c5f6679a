"""`serve` as clients use it: one server on a tiny run, asked by the official client of OpenAI."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, OpenAI

from xft.serving import open_session

USER: list[Any] = [{"role": "user", "content": "Say number 3"}]


def _say(client: OpenAI, **options: Any) -> str:
    given = {"model": "tiny", "messages": USER, "max_tokens": 8, **options}
    return client.chat.completions.create(**given).choices[0].message.content or ""


def test_models_lists_fine_tuned_and_base_model(client: OpenAI) -> None:
    assert [item.id for item in client.models.list()] == ["tiny", "tiny:base"]


def test_greedy_answer_equals_chat_and_sample_generations(
    client: OpenAI, talkative_run: Path, talkative_model: Path
) -> None:
    rows = [json.loads(line) for line in (talkative_run / "generations.jsonl").read_text().splitlines()]
    assert {row["question"] for row in rows} == {"Say number 3", "Who are you?"}
    chat = open_session(str(talkative_run), max_new_tokens=4)
    base = open_session(str(talkative_model), max_new_tokens=4)
    for first, last in zip(rows[:2], rows[-2:], strict=True):
        turns = [{"role": "user", "content": last["question"]}]
        served = _say(client, messages=turns, max_tokens=4)
        assert served == chat.ask_once(last["question"]) == last["answer"]
        below = _say(client, messages=turns, max_tokens=4, model="tiny:base")
        assert below == base.ask_once(first["question"]) == first["answer"]


def test_stream_joins_to_the_full_answer_with_usage(client: OpenAI, talkative_run: Path) -> None:
    options: dict[str, Any] = {"model": "tiny", "messages": USER, "max_tokens": 20, "temperature": 0}
    whole = client.chat.completions.create(**options)
    pieces = list(
        client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    finishes = [piece.choices[0].finish_reason for piece in pieces if piece.choices]
    assert finishes[:-1] == [None] * (len(finishes) - 1)
    assert finishes[-1] == whole.choices[0].finish_reason
    assert pieces[-1].usage == whole.usage
    session = open_session(str(talkative_run))
    prompt = session.generator.encode(session.conversation("Say number 3"))
    (answer,) = session.generator.answer([session.conversation("Say number 3")], 20)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(prompt)
    assert whole.usage.completion_tokens == answer.num_tokens
    assert whole.choices[0].finish_reason == answer.finish_reason


def test_answer_ends_before_a_stop_text_and_at_max_tokens(client: OpenAI) -> None:
    options: dict[str, Any] = {"temperature": 9, "seed": 3, "max_tokens": 30}
    whole = _say(client, **options)
    middle = whole[len(whole) // 2 :][:4]
    before = whole[: whole.index(middle)].rstrip()
    assert _say(client, **options, stop=middle) == before
    stream = client.chat.completions.create(
        model="tiny", messages=USER, stream=True, stop=["never there", middle], **options
    )
    pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == before
    assert pieces[-1].choices[0].finish_reason == "stop"
    short = client.chat.completions.create(model="tiny", messages=USER, **{**options, "max_tokens": 3})
    assert short.choices[0].finish_reason == "length"
    assert whole.startswith(short.choices[0].message.content or "none")


def test_seed_gives_the_same_answer_alone_and_in_a_batch(client: OpenAI) -> None:
    """Twelve requests in batches of four; in fp32, the batch does not change an answer."""
    options = [
        {"temperature": 9 if seed % 3 else 0, "seed": seed, "max_tokens": 40 + 5 * seed, "top_p": 0.9}
        for seed in range(12)
    ]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda each: _say(client, **each), options))
    alone = [_say(client, **option) for option in options[:6]]
    assert together[:6] == alone
    assert len(set(together)) == 9  # those at temperature 0 are one and the same


def test_n_answers_have_consecutive_seeds(client: OpenAI) -> None:
    options: dict[str, Any] = {
        "model": "tiny",
        "messages": USER,
        "temperature": 9,
        "seed": 5,
        "max_tokens": 6,
    }
    choices = client.chat.completions.create(**options, n=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert [choice.message.content for choice in choices] == [
        _say(client, **{**options, "seed": s}) for s in (5, 6, 7)
    ]


def test_text_completion_equals_transformers(client: OpenAI, talkative_run: Path) -> None:
    import torch

    session = open_session(str(talkative_run))
    tokenizer: Any = session.generator.tokenizer
    prompts = ["Number 3 is", "The"]
    done = client.completions.create(model="tiny", prompt=prompts, max_tokens=5, temperature=0)
    for prompt, choice in zip(prompts, done.choices, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            output = session.generator.model.generate(
                input_ids=ids, max_new_tokens=5, do_sample=False, pad_token_id=2
            )
        assert choice.text == tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    stream = client.completions.create(model="tiny", prompt="The", max_tokens=5, temperature=0, stream=True)
    assert "".join(each.choices[0].text for each in stream) == done.choices[1].text


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"model": "other"}, 404, "model: got 'other'; expected one of tiny, tiny:base"),
        ({"max_tokens": 401}, 400, "max_tokens: got 401; expected at most 400"),
        ({"max_tokens": 0}, 400, "max_tokens: got 0; expected greater than or equal to 1"),
        ({"temperature": -1}, 400, "temperature: got -1; expected greater than or equal to 0"),
        ({"messages": []}, 400, "messages: got []; expected a list with at least 1 item"),
        ({"messages": [{"role": "user"}]}, 400, "content"),
        ({"messages": [{"role": "judge", "content": "x"}]}, 400, "judge"),
        (
            {"messages": [*USER, {"role": "assistant", "content": "x"}]},
            400,
            "expected a user or tool message at the end",
        ),
        (
            {"messages": [{"role": "user", "content": "long " * 4200}]},
            400,
            "expected at most 4096 in total",
        ),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty: got 0.5; expected 0"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"extra_body": {"best": 1}}, 400, "best: is not supported; remove it"),
        ({"n": 5}, 400, "n: got 5 answers in one request; expected at most 4"),
        (
            {"messages": [{"role": "user", "content": "x" * (1 << 20)}]},
            413,
            "body: got more than 1,048,576 bytes",
        ),
    ],
)
def test_invalid_request_returns_error_body(
    client: OpenAI, options: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(APIStatusError) as caught:
        _say(client, **options)
    assert caught.value.status_code == status
    body: Any = caught.value.response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert said in body["error"]["message"]


def test_http_error_returns_error_body(address: str) -> None:
    where = f"{address}/v1/chat/completions"
    answers = [
        (httpx.post(where, content="{", headers={"content-type": "application/json"}), 400),
        (httpx.get(where), 405),
        (httpx.get(f"{address}/v1/nothing"), 404),
        # Pages of other sites may send forms to this machine, but not JSON.
        (httpx.post(where, content=json.dumps({"model": "tiny", "messages": USER})), 415),
    ]
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == (
            "not_found_error" if status == 404 else "invalid_request_error"
        )
    other = httpx.get(f"{address}/v1/models", headers={"host": "evil.example"})
    assert other.status_code == 400
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}


def test_disconnected_client_frees_its_place(client: OpenAI) -> None:
    long: dict[str, Any] = {"model": "tiny", "messages": USER, "temperature": 9, "max_tokens": 400}
    streams = [client.chat.completions.create(**long, stream=True) for _ in range(12)]
    for stream in streams:
        stream.close()
    assert _say(client, max_tokens=2)
