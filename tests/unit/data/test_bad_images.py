"""Rows with images that cannot be used: each is an error with file, line and field, and a run goes on without it."""

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_images import FakeProcessor
from helpers.pictures import encoded, picture
from helpers.vision import FAMILIES, byte_tokenizer
from PIL import Image as Pillow

from xft.data import InstructionData, formats
from xft.errors import DataError
from xft.templates import SOURCES, ChatTemplate
from xft.types import Row

RGB = picture(20, 30)
PNG = encoded(RGB)
JPEG = encoded(RGB, "JPEG")
GIF = encoded(RGB, "GIF")
WEBP = encoded(RGB, "WEBP")


BMP = encoded(RGB, "BMP")
TIFF = encoded(RGB, "TIFF")
TIFF_JPEG = encoded(RGB, "TIFF", compression="jpeg")
MPO = encoded(RGB, "MPO", save_all=True, append_images=[RGB])


def damaged(data: bytes) -> bytes:
    """A PNG with one wrong byte in its pixels."""
    offset = data.index(b"IDAT") + 20
    return data[:offset] + bytes([data[offset] ^ 255]) + data[offset + 1 :]


def png_of(height: int, width: int) -> bytes:
    """A PNG whose header claims a size."""
    chunk = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + chunk))
    return PNG[:16] + chunk + checksum + PNG[33:]


def as_url(data: bytes, kind: str = "png") -> str:
    """A data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


FILES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"this is not an image",
    "html": b"<!doctype html><title>404</title>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.4\n%%EOF",
    "zip": b"PK\x03\x04" + bytes(40),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "PNG signature alone": PNG[:8],
    "PNG header alone": PNG[:33],
    "PNG without its end": PNG[:-12],
    "half a PNG": PNG[: len(PNG) // 2],
    "PNG with a wrong signature": b"\x88" + PNG[1:],
    "PNG of 100,000 x 100,000 pixels": png_of(100_000, 100_000),
    "PNG of 0 rows": png_of(0, 30),
    "PNG of 2**31 columns": png_of(20, 2**31 - 1),
    "JPEG without its end": JPEG[:-2],
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "JPEG marker alone": JPEG[:4],
    "GIF without its end": GIF[:-1],
    "GIF header alone": GIF[:13],
    "half a WebP": WEBP[: len(WEBP) // 2],
    "WebP header alone": WEBP[:16],
    "half a BMP": BMP[: len(BMP) // 2],
    "half a TIFF": TIFF[: len(TIFF) // 2],
    "half a compressed TIFF": TIFF_JPEG[: len(TIFF_JPEG) // 2],
    "TIFF without its last bytes": TIFF[:-8],
    "MPO without the end of its first picture": MPO[: MPO.index(b"\xff\xd9", 1) - 1],
    "PNG with a damaged chunk": damaged(PNG),
    "JPEG with a damaged segment": JPEG.replace(b"\xff\xc4", b"\xff\xc1", 1),
    "GIF with damaged pixels": GIF[:-400] + b"\xff" * 20 + GIF[-380:],
    "WebP with damaged pixels": WEBP[:24] + bytes(len(WEBP) - 24),
    "compressed TIFF with damaged pixels": TIFF_JPEG.replace(b"\xff\xda", b"\0\0", 1),
    "1 x 30 pixels": encoded(picture(1, 30)),
    "30 x 1 pixels": encoded(picture(30, 1)),
    "3 x 3 pixels": encoded(picture(3, 3)),
    "4 x 1,000 pixels": encoded(picture(4, 1000)),
    "icon": encoded(RGB, "ICO"),
    "PPM": encoded(RGB, "PPM"),
}
"""Contents of files that cannot be used."""

VALUES: dict[str, Any] = {
    "absent file": "absent.png",
    "folder": "folder",
    "pipe": "pipe",
    "device": "/dev/zero",
    "link to nothing": "broken-link.png",
    "name with a null byte": "a\0.png",
    "blank name": " ",
    "name of 5,000 characters": "a" * 5000,
    "http address": "http://images.example/a.png",
    "https address": "HTTPS://images.example/a.png",
    "s3 address": "s3://bucket/a.png",
    "number": 7,
    "true": True,
    "list in a list": [["good.png"]],
    "object without an image": {"height": 3},
    "object of nothing": {"bytes": None, "path": None},
    "data URL of text": "data:text/plain;base64,AAAA",
    "data URL without base64": "data:image/png,AAAA",
    "data URL of broken base64": "data:image/png;base64,A",
    "data URL of nothing": "data:image/png;base64,",
    "data URL of half a picture": as_url(PNG[:60]),
    "data URL of no picture": as_url(b"no picture"),
}
"""Values of ``images[2]`` that cannot be used."""

TURNS: dict[str, Any] = {
    "fewer placeholders than images": "<image>what?",
    "more placeholders than images": "<image><image><image>what?",
    "no placeholder": "what?",
    "part of another kind": [{"type": "video", "video": "a.mp4"}],
    "audio": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
    "part with two images": [{"type": "image", "image": "good.png", "url": "good.png"}],
    "image_url without an address": [{"type": "image_url", "image_url": {"detail": "low"}}],
    "the token of the model": "<image><image> and <img>",
}
"""Contents of a question, for two images, that cannot be used."""


def row(content: Any = "<image> or <image>?", second: Any = "good.png", answer: str = "A cat.") -> Row:
    """A row with two images."""
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": ["good.png", second]}


def bad_rows() -> dict[str, Row]:
    """Rows that cannot be used, by what is wrong with them."""
    files = {f"file: {name}": row(second=f"{number}.bin") for number, name in enumerate(FILES)}
    values = {f"value: {name}": row(second=value) for name, value in VALUES.items()}
    turns = {f"turn: {name}": row(content) for name, content in TURNS.items()}
    answers = {
        "an answer shows an image": {**row(), "messages": [*row("<image>?")["messages"][:1], {"role": "assistant", "content": [{"type": "image"}]}]},
        "an answer spells the token": row(answer="<img>"),
        "a column of videos": {**row(), "videos": ["a.mp4"]},
        "a column of audio": {**row(), "audios": ["a.wav"]},
    }  # fmt: skip
    return {**files, **values, **turns, **answers}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that rows name."""
    folder = tmp_path_factory.mktemp("images")
    for number, data in enumerate(FILES.values()):
        (folder / f"{number}.bin").write_bytes(data)
    (folder / "good.png").write_bytes(PNG)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "broken-link.png").symlink_to(folder / "nothing")
    return folder


@pytest.fixture(scope="module")
def prepare(folder: Path) -> Callable[..., Any]:
    """Prepare rows as a run does."""
    tokenizer = byte_tokenizer(FAMILIES["llava"])
    template = ChatTemplate(SOURCES["chatml"]).bind(tokenizer)

    def run(rows: list[Row], name: str, **options: Any) -> Any:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
        data = InstructionData(
            str(path), format=formats.openai, val_split=None, max_length=30_000, **options
        )
        return data.prepare(tokenizer, template, FakeProcessor())

    return run


def test_there_are_many_kinds() -> None:
    assert len(bad_rows()) >= 65


@pytest.mark.parametrize("name", bad_rows())
def test_row_is_an_error_with_its_location(name: str, prepare: Callable[..., Any]) -> None:
    with pytest.raises(DataError) as caught:
        prepare([row(), bad_rows()[name]], "one")
    assert "one.jsonl:2" in str(caught.value)
    fields = ("images", "messages", "videos", "audios")
    assert str(caught.value.key).startswith(fields), caught.value.key
    if name.startswith(("file:", "value:")):
        assert str(caught.value.key).startswith("images[2]")


def test_all_rows_are_counted_and_the_rest_is_kept(prepare: Callable[..., Any], folder: Path) -> None:
    bad = list(bad_rows().values())
    rows = [row(), *bad, row("<image>\nand <image>\nwhy?")]
    prepared = prepare(rows, "all", on_invalid="quarantine")
    assert len(prepared.train) == 2
    assert prepared.report.images["images"] == 4
    report = prepared.report.to_dict()
    assert report["rows_read"] == len(rows)
    assert sum(report["rows_dropped"].values()) == len(bad)
    (quarantine,) = prepared.report.quarantine_files
    rejected = [json.loads(line) for line in quarantine.read_text(encoding="utf-8").splitlines()]
    assert len(rejected) == len(bad)


CONVERTED: dict[str, Pillow.Image] = {
    "CMYK": RGB.convert("CMYK"),
    "palette": RGB.convert("P"),
    "gray with alpha": RGB.convert("LA"),
    "transparent": RGB.convert("RGBA"),
    "one bit": RGB.convert("1"),
    "16 bit": Pillow.new("I;16", (30, 20), 40_000),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_unusual_picture_is_converted_and_counted(
    name: str, prepare: Callable[..., Any], folder: Path
) -> None:
    kind = "TIFF" if name == "CMYK" else "PNG"
    (folder / "unusual.bin").write_bytes(encoded(CONVERTED[name], kind))
    prepared = prepare([row(second="unusual.bin")], name.replace(" ", "-"))
    assert prepared.report.images["converted"] == 1
    (sample,) = prepared.train
    colors = FakeProcessor().model_inputs([sample], None).model_inputs["colors"]
    assert colors.shape == (2, 3)
