"""The parts of the server: drawing, waiting in turn, the key, names and addresses."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from helpers.tiny import save_tiny

from xft.errors import ConfigError
from xft.models import TextGenerator
from xft.models.loading import load_tokenizer, load_weights
from xft.serving.server.app import make_app
from xft.serving.server.batcher import SLICE, Batcher, Full
from xft.serving.server.main import is_loopback, listen, name_of
from xft.serving.server.requests import Event, Job, RowSampler, Sampling
from xft.serving.server.service import Limits, Service
from xft.templates import BoundTemplate


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> TextGenerator:
    tokenizer = make_byte_tokenizer(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    folder = save_tiny(tmp_path_factory.mktemp("server") / "model", "llama", tokenizer)
    read = load_tokenizer(str(folder))
    return TextGenerator(
        load_weights(str(folder), torch.float32), read, BoundTemplate(read, read.chat_template)
    )


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event.finish or event.error:
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.events)


def _job(generator: TextGenerator, prompt: str = "ab", **options: Any) -> tuple[Job, Listener]:
    heard = Listener()
    ids = generator.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return Job(generator, ids, Sampling(**{"max_tokens": 8, **options}), heard), heard


def test_tokens_are_drawn_as_often_as_the_formula_says(generator: TextGenerator) -> None:
    """softmax(scores / T), cut to the nucleus: of 0.4, 0.3, 0.2, 0.1 those before which less than 0.6
    stand, so the first two, in the proportion 4 : 3."""
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[None]
    drawn = torch.zeros(4)
    job, _ = _job(generator, temperature=2.0, top_p=0.6, seed=1)
    sampler = RowSampler([job])
    for _ in range(3000):
        drawn[sampler(torch.zeros(1, 1).long(), 2 * scores).argmax()] += 1
    assert drawn[2:].tolist() == [0, 0]
    # 3000 draws of probability 4/7 deviate by sqrt(p q / n) = 0.009; four times that is allowed
    assert drawn[0] / 3000 == pytest.approx(4 / 7, abs=0.036)
    greedy, _ = _job(generator)
    assert torch.equal(RowSampler([greedy])(torch.zeros(1, 1).long(), scores), scores)


def test_a_short_answer_does_not_wait_for_the_end_of_a_long_one(generator: TextGenerator) -> None:
    batcher = Batcher(max_batch_size=2, max_queue_size=4)
    try:
        long, heard_long = _job(generator, max_tokens=1500, temperature=9.0, seed=1)
        short, heard_short = _job(generator, "b", max_tokens=3, temperature=9.0, seed=2)
        batcher.submit([long])
        while not heard_long.events:
            pass
        batcher.submit([short])
        assert heard_short.ended.wait(60)
        assert not heard_long.ended.is_set()
        assert len(long.generated) >= SLICE
        assert batcher.largest == 2
        long.cancel()
        again, heard = _job(generator, "b", max_tokens=3, temperature=9.0, seed=2)
        batcher.submit([again])
        assert heard.ended.wait(60)
        assert heard.text == heard_short.text
    finally:
        batcher.close()


def test_an_answer_that_was_interrupted_for_others_goes_on_as_if_it_had_not_been(
    generator: TextGenerator,
) -> None:
    texts = []
    for disturb in (False, True):
        batcher = Batcher(max_batch_size=4, max_queue_size=9)
        try:
            job, heard = _job(generator, max_tokens=4 * SLICE, temperature=1.0, seed=7)
            batcher.submit([job])
            if disturb:
                while not heard.events:
                    pass
                batcher.submit(
                    [_job(generator, "xyz" * n, max_tokens=40, temperature=2.0)[0] for n in (1, 2)]
                )
            assert heard.ended.wait(60)
            texts.append(heard.text)
        finally:
            batcher.close()
    assert texts[0] == texts[1]


def test_who_comes_when_too_many_wait_is_told_so_and_a_failure_is_told_to_all(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(generator, "generate", fail)
    batcher = Batcher(max_batch_size=2, max_queue_size=2)
    try:
        pairs = [_job(generator) for _ in range(3)]
        with pytest.raises(Full, match="2 may"):
            batcher.submit([each for each, _ in pairs])
        batcher.submit([each for each, _ in pairs[:2]])
        for _, heard in pairs[:2]:
            assert heard.ended.wait(10)
            assert heard.events[-1].error == "RuntimeError: out of memory"
    finally:
        batcher.close()


@pytest.mark.parametrize("stop", ["e f", "\nx", "€"])
def test_nothing_of_a_stop_text_or_of_half_a_character_is_told(generator: TextGenerator, stop: str) -> None:
    said = f"  ä e {stop} and more"
    job, heard = _job(generator, max_tokens=99, stop=("e and", stop))
    for token in generator.tokenizer(said, add_special_tokens=False)["input_ids"]:
        if not job.done:
            job.take(token)
    assert heard.text == said[: said.index(stop)].strip()
    assert heard.events[-1].finish == "stop"
    assert "\ufffd" not in heard.text


def test_the_key_is_wanted_for_the_api_and_only_there(generator: TextGenerator) -> None:
    batcher = Batcher(1, 1)
    app = make_app(Service({"m": generator}, batcher, Limits(64, 8, 1)), "secret", None)

    async def ask() -> list[tuple[int, Any]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            headers: list[dict[str, str]] = [
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer ö"},
                {"Authorization": "Bearer secret"},
            ]
            got = [
                await client.get("/v1/models", headers=[(k, v.encode()) for k, v in each.items()])
                for each in headers
            ]
            got.append(await client.get("/health"))
            return [(each.status_code, each.json()) for each in got]

    found = asyncio.run(ask())
    batcher.close()
    assert [status for status, _ in found] == [401, 401, 401, 200, 200]
    assert found[0][1]["error"]["code"] == "invalid_api_key"
    assert "secret" not in str(found[:3])


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
def test_a_model_is_called_after_its_run(path: str, name: str) -> None:
    assert name_of(path) == name


def test_the_folder_itself_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_of(".") == tmp_path.name


def test_addresses() -> None:
    assert [is_loopback(each) for each in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(each) for each in ("0.0.0.0", "192.168.1.2", "example.org")] == [False] * 3
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="--port 0 takes a free one"):
            listen("127.0.0.1", taken.getsockname()[1])
