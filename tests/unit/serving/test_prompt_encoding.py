"""Prompts of requests: images as data URLs, and never as files of the server."""

import base64
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pictures import encoded, picture
from helpers.vision import vision_generator

from xft.data.images.reading import inspect_image
from xft.models import TextGenerator
from xft.serving.server import prompt_encoding
from xft.serving.server.prompt_encoding import encode_chat
from xft.serving.server.protocol import ApiError
from xft.types import Image


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> TextGenerator:
    """Generator of a tiny LLaVA."""
    return vision_generator(tmp_path_factory.mktemp("llava"), "llava")


def data_url(seed: int = 0) -> str:
    """A picture as a client sends it."""
    return f"data:image/png;base64,{base64.b64encode(encoded(picture(20, 30, seed))).decode()}"


def question(*urls: str) -> list[dict[str, Any]]:
    """A question about images."""
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]


def test_images_become_tokens(seeing: TextGenerator) -> None:
    assert seeing.processor is not None
    (token,) = seeing.processor.token_ids
    prompt = encode_chat(seeing, question(data_url(), data_url(1)), (), 4096, {})
    assert prompt.ids.count(token) == 2 * 16
    assert [image.size for image in prompt.images] == [(20, 30)] * 2
    assert encode_chat(seeing, question(), (), 4096, {}).images == ()


@pytest.mark.parametrize("url", [__file__, f"file://{__file__}", "/etc/passwd", "http://127.0.0.1/a.png"])
def test_files_and_addresses_are_refused(seeing: TextGenerator, url: str) -> None:
    with pytest.raises(ApiError) as caught:
        encode_chat(seeing, question(url), (), 4096, {})
    assert caught.value.status == 400
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AAAA", "data:text/plain;base64,AAAA", "data:image/png,x"]
)
def test_broken_images_are_refused(seeing: TextGenerator, url: str) -> None:
    with pytest.raises(ApiError) as caught:
        encode_chat(seeing, question(url), (), 4096, {})
    assert caught.value.status == 400


def corrupt_data_url() -> str:
    """A picture with intact chunks, whose pixels cannot be decoded."""
    data = encoded(picture(40, 40))
    # The length, name, content and checksum of the only chunk of pixels.
    begin = data.index(b"IDAT") - 4
    content = b"\xff" * 20
    chunk = len(content).to_bytes(4, "big") + b"IDAT" + content
    checksum = zlib.crc32(chunk[4:]).to_bytes(4, "big")
    data = data[:begin] + chunk + checksum + data[data.index(b"IEND") - 4 :]
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_an_image_whose_pixels_are_corrupt_is_refused_before_it_joins_a_batch(
    seeing: TextGenerator,
) -> None:
    with pytest.raises(ApiError) as caught:
        encode_chat(seeing, question(data_url(), corrupt_data_url()), (), 4096, {})
    assert caught.value.status == 400
    assert caught.value.param == "messages"
    assert "cannot be decoded" in caught.value.message


def test_images_are_decoded_once_and_change_no_answer(
    seeing: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = question(data_url(3))
    prompt = encode_chat(seeing, messages, (), 4096, {})
    (image,) = prompt.images
    assert image.data == b""
    original = inspect_image(Image(data=encoded(picture(20, 30, 3))), Path())[0]
    expected = seeing.generate([prompt.ids], 4, images=[[original]])
    monkeypatch.setattr("PIL.Image.open", None)  # the batch decodes nothing
    assert torch.equal(seeing.generate([prompt.ids], 4, images=[prompt.images]), expected)


def test_a_prompt_that_is_too_long_is_not_decoded(seeing: TextGenerator) -> None:
    prompt = encode_chat(seeing, question(corrupt_data_url()), (), 4, {})
    assert len(prompt.ids) > 4


def test_number_of_pixels_is_limited(seeing: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_encoding, "MAX_PIXELS", 20 * 30)
    encode_chat(seeing, question(data_url()), (), 4096, {})
    with pytest.raises(ApiError):
        encode_chat(seeing, question(data_url(), data_url()), (), 4096, {})


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_conversation_without_a_system_message_gets_that_of_the_training(
    generator: TextGenerator, role: str
) -> None:
    own = [{"role": role, "content": "Be brief."}, *question()]
    expected = encode_chat(generator, own, (), 4096, {})
    assert encode_chat(generator, question(), (), 4096, {}, "Be brief.") == expected
    assert encode_chat(generator, own, (), 4096, {}, "Be long.") == expected
    assert encode_chat(generator, question(), (), 4096, {}) != expected


def test_text_model_refuses_images(generator: TextGenerator) -> None:
    with pytest.raises(ApiError) as caught:
        encode_chat(generator, question(data_url()), (), 4096, {})
    assert caught.value.param == "messages"


def test_text_of_an_image_token_is_refused(seeing: TextGenerator) -> None:
    with pytest.raises(ApiError):
        encode_chat(seeing, [{"role": "user", "content": "<image> what?"}], (), 4096, {})


def test_path_is_not_read(seeing: TextGenerator, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(20, 30)))
    with pytest.raises(ApiError) as caught:
        encode_chat(seeing, question(str(tmp_path / "a.png")), (), 4096, {})
    assert "data URL" in caught.value.message
