import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generators import tiny_generator
from helpers.preferences import adapted_model, whole_model

from xft.errors import ModelError
from xft.models import TextGenerator, generation
from xft.models.checks.measure import AttentionCheck
from xft.models.generation import stop_ids
from xft.types import Message

SHORT, LONG = [Message("user", "Hi")], [Message("user", "What is this long question about?")]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> TextGenerator:
    return tiny_generator(tmp_path_factory.mktemp("generation") / "model", make_byte_tokenizer)


def _greedy(generator: TextGenerator, ids: list[int], max_new_tokens: int) -> list[int]:
    """Decode without cache, padding and ``generate``."""
    answer: list[int] = []
    with torch.no_grad():
        while len(answer) < max_new_tokens and not set(answer) & set(generator.stop_ids):
            logits = generator.model.eval()(input_ids=torch.tensor([ids + answer])).logits
            answer.append(int(logits[0, -1].argmax()))
    return answer


@pytest.mark.parametrize("batch_size", [1, 2])
def test_answer_equals_greedy_decoding_in_any_batch(generator: TextGenerator, batch_size: int) -> None:
    answers = generator.answer([SHORT, LONG], max_new_tokens=6, batch_size=batch_size)
    for conversation, answer in zip((SHORT, LONG), answers, strict=True):
        expected = _greedy(generator, generator.encode(conversation), 6)
        assert answer.num_tokens == len(expected)
        assert answer.finish_reason == ("stop" if expected[-1] in generator.stop_ids else "length")


def test_completion_ends_before_the_first_stop_token(generator: TextGenerator) -> None:
    [stop, *_] = generator.stop_ids
    ids = list(generator.tokenizer(" ab ", add_special_tokens=False)["input_ids"])
    stopped = generator.to_completion([*ids, stop, *ids])
    assert (stopped.text, stopped.finish_reason, stopped.num_tokens) == ("ab", "stop", len(ids) + 1)
    cut = generator.to_completion(ids)
    assert (cut.text, cut.finish_reason, cut.num_tokens) == ("ab", "length", len(ids))


def test_stream_adds_up_to_the_answer(generator: TextGenerator) -> None:
    [answer] = generator.answer([SHORT], max_new_tokens=6)
    assert "".join(generator.stream(SHORT, max_new_tokens=6)).strip() == answer.text


def test_closed_stream_stops_generating(generator: TextGenerator) -> None:
    before = threading.active_count()
    stream: Any = generator.stream(SHORT, max_new_tokens=100_000, temperature=5.0)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_failure_in_a_stream_is_raised_in_the_caller(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(generator, "_generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(generator.stream(SHORT))


@pytest.fixture
def training_generator(generator: TextGenerator) -> Iterator[TextGenerator]:
    generator.model.train()
    generator.model.config.use_cache = False
    yield generator
    generator.model.config.use_cache = True


def test_generate_restores_training_mode_and_cache_setting(training_generator: TextGenerator) -> None:
    training_generator.answer([SHORT], max_new_tokens=2)
    assert training_generator.model.training
    assert training_generator.model.config.use_cache is False


def test_base_answers_without_the_adapter(generator: TextGenerator) -> None:
    """The adapter of the helper changes the answers of its base; both have the same weights below it."""
    prompts = [[5, 6, 7]]
    tokenizer, template = generator.tokenizer, generator.template
    base = TextGenerator(whole_model(), tokenizer, template).generate(prompts, 6)
    model = adapted_model()
    assert torch.equal(TextGenerator(model, tokenizer, template, base=True).generate(prompts, 6), base)
    assert not torch.equal(TextGenerator(model, tokenizer, template).generate(prompts, 6), base)


def test_base_of_model_without_adapter_raises_model_error(generator: TextGenerator) -> None:
    with pytest.raises(ModelError):
        TextGenerator(generator.model, generator.tokenizer, generator.template, base=True)


def test_stop_ids_are_those_of_the_template_and_eos(generator: TextGenerator) -> None:
    tokenizer = generator.tokenizer
    expected = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    assert stop_ids(tokenizer, generator.template) == expected


def test_model_that_padding_on_the_left_changes_continues_one_prompt_at_a_time(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generator.max_batch_size is None
    wrong = AttentionCheck(single_error=0.0, left_padded_error=0.2)
    monkeypatch.setattr(generation, "check_loaded", lambda *_: wrong)
    alone = TextGenerator(generator.model, generator.tokenizer, generator.template)
    assert alone.max_batch_size == 1
    calls: list[int] = []

    def generate(prompts: list[list[int]], *options: Any) -> torch.Tensor:
        calls.append(len(prompts))
        return torch.zeros(1, 99, dtype=torch.long)

    monkeypatch.setattr(alone, "generate", generate)
    alone.answer([SHORT, LONG])
    assert calls == [1, 1]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
def test_answers_about_images_equal_those_of_transformers(family: str, tmp_path: Path) -> None:
    """In a batch with a text, and through the processor of transformers alone."""
    from helpers.pictures import encoded, picture
    from helpers.vision import vision_generator
    from transformers import AutoConfig, AutoModelForImageTextToText

    from xft.compat.processors import load_processor
    from xft.data.formats.images import image_message
    from xft.data.images.reading import open_image

    folder = tmp_path / "model"
    generator = vision_generator(folder, family)
    images = [open_image(encoded(picture(20 + 9 * seed, 30, seed)), tmp_path, "image") for seed in range(3)]
    chats = [
        [image_message("what?", images[:1])],
        [image_message("why not?", [])],
        [image_message("<image>\nor <image>?", images[1:])],
    ]
    answers = generator.answer(chats, max_new_tokens=6)
    assert [generator.answer([chat], max_new_tokens=6)[0] for chat in chats] == answers
    assert "".join(generator.stream(chats[0], max_new_tokens=6)).strip() == answers[0].text

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = load_processor(str(folder), AutoConfig.from_pretrained(folder))
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[[picture(20, 30, 0)]], return_tensors="pt")
    assert generator.processor is not None
    output = model.generate(
        **inputs, max_new_tokens=6, do_sample=False, suppress_tokens=sorted(generator.processor.token_ids),
        eos_token_id=generator.stop_ids,
    )  # fmt: skip
    assert generator.to_completion(output[0, inputs["input_ids"].shape[1] :].tolist()) == answers[0]
