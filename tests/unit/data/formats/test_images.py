"""Images in columns, in parts of a content, and their places in texts."""

import base64
from typing import Any

import pytest

from xft.data import formats
from xft.data.formats.images import parse_image
from xft.errors import DataError
from xft.types import IMAGE_PLACE, Conversation, Image, Message, PreferencePair, Row

PNG = b"\x89PNG bytes"
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
ANSWER = {"from": "gpt", "value": "A cat."}


def ask(*texts: str, **columns: Any) -> Row:
    """A row of ShareGPT with some questions."""
    turns = [turn for text in texts for turn in ({"from": "human", "value": text}, ANSWER)]
    return {"conversations": turns, **columns}


def shown(messages: Any) -> list[tuple[str, tuple[str, ...]]]:
    """The contents of the turns, and the paths of their images."""
    turns = messages.messages if isinstance(messages, Conversation) else messages
    return [(turn.content, tuple(image.path for image in turn.images)) for turn in turns]


@pytest.mark.parametrize("read", [formats.llava, formats.sharegpt])
@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<image>\nWhat is it?", f"{IMAGE_PLACE}What is it?"),
        ("What is it?\n<image>", f"What is it?{IMAGE_PLACE}"),
        ("See <image> here", f"See {IMAGE_PLACE} here"),
        ("<image>\n\nWhat?", f"{IMAGE_PLACE}\nWhat?"),
        ("<image>", IMAGE_PLACE),
    ],
)
def test_mark_in_a_question_becomes_a_place(read: Any, text: str, content: str) -> None:
    assert shown(read(ask(text, image="a.jpg"))) == [(content, ("a.jpg",)), ("A cat.", ())]


@pytest.mark.parametrize(
    ("question", "content"),
    [("What?", f"{IMAGE_PLACE}What?"), ("What is <image>?", f"What is {IMAGE_PLACE}?")],
)
def test_questions_of_tables_show_images(question: str, content: str) -> None:
    row = {
        "instruction": question,
        "output": "A cat.",
        "chosen": "A cat.",
        "rejected": "A dog.",
        "image": "a.png",
    }
    expected = [(content, ("a.png",)), ("A cat.", ())]
    assert shown(formats.alpaca(row)) == expected
    assert shown(formats.columns(row, user="instruction", assistant="output")) == expected
    assert shown(formats.alpaca_preference(row).prompt) == expected[:1]
    pair = formats.columns(row, user="instruction", chosen="chosen", rejected="rejected")
    assert isinstance(pair, PreferencePair)
    assert shown(pair.prompt) == expected[:1]


def test_a_column_of_text_with_the_name_of_images_is_text() -> None:
    row = {"image": "A cat on a mat", "title": "Cat"}
    assert shown(formats.columns(row, user="image", assistant="title"))[0] == ("A cat on a mat", ())


def test_prompt_and_completion_show_images() -> None:
    ask = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    row = {"prompt": ask, "completion": [{"role": "assistant", "content": "A cat."}], "images": ["a.png"]}
    assert shown(formats.prompt_completion(row)) == [(f"{IMAGE_PLACE}What?", ("a.png",)), ("A cat.", ())]


def test_images_are_assigned_in_order_over_turns() -> None:
    row = ask("<image><image> Compare.", "And <image>?", images=["a.png", "b.png", "c.png"])
    assert [images for _, images in shown(formats.sharegpt(row))] == [
        ("a.png", "b.png"),
        (),
        ("c.png",),
        (),
    ]


def test_system_and_tool_turns_may_show_images() -> None:
    call = {"function": {"name": "draw", "arguments": {}}}
    turns = [
        {"role": "system", "content": "Look like this: <image>"},
        {"role": "user", "content": "Draw."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "<image>"},
        {"role": "assistant", "content": "Done."},
    ]
    result = shown(formats.openai({"messages": turns, "images": ["s.png", "t.png"]}))
    assert [images for _, images in result] == [("s.png",), (), (), ("t.png",), ()]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image"}, Image("a.png", field="images[1]")),
        ({"type": "image", "image": None, "text": None}, Image("a.png", field="images[1]")),
        ({"type": "image", "image": "b.png"}, Image("b.png", field="messages[1].content[1].image")),
        ({"type": "image", "path": "b.png"}, Image("b.png", field="messages[1].content[1].path")),
        (
            {"type": "image", "base64": URL.partition(",")[2]},
            Image(data=PNG, field="messages[1].content[1].base64"),
        ),
        (
            {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
            Image(data=PNG, field="messages[1].content[1].image_url"),
        ),
        (
            {"type": "image_url", "image_url": "file:///x/b.png"},
            Image("/x/b.png", field="messages[1].content[1].image_url"),
        ),
    ],
)
def test_part_holds_an_image_or_refers_to_the_column(part: Row, expected: Image) -> None:
    content = [part, {"type": "text", "text": "What?"}]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "A cat."}]
    columns = {"images": ["a.png"]} if expected.path == "a.png" else {}
    (question, _) = formats.openai({"messages": turns, **columns})
    assert isinstance(question, Message)
    assert (question.content, question.images) == (f"{IMAGE_PLACE}What?", (expected,))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.png", Image("a.png", field="f")),
        (PNG, Image(data=PNG, field="f")),
        (URL, Image(data=PNG, field="f")),
        ({"bytes": PNG, "path": "a.png"}, Image(data=PNG, field="f")),
        ({"bytes": None, "path": "a.png"}, Image("a.png", field="f")),
    ],
)
def test_image_is_a_path_bytes_or_an_object(value: object, expected: Image) -> None:
    assert parse_image(value, "f") == expected


@pytest.mark.parametrize(
    "value",
    [
        *(
            "http://x.org/a.png",
            "HTTPS://x.org/a.png",
            "s3://bucket/a.png",
            "",
            "  ",
            "a\0b",
            b"",
            3,
            True,
            [],
            {},
        ),
        *(
            {"bytes": None, "path": None},
            "data:image/png;base64,?",
            "data:text/html;base64,aGk=",
            "data:image/png,x",
        ),
    ],
)
def test_other_value_raises(value: object) -> None:
    with pytest.raises(DataError) as caught:
        parse_image(value, "images[2]")
    assert caught.value.key == "images[2]"


@pytest.mark.parametrize(
    ("row", "key", "got"),
    [
        (ask("What?", images=["a.png"]), "images[1]", 0),
        (ask("<image> <image>", images=["a.png"]), "images[1]", 2),
        (ask("<image>", images=["a.png", "b.png"]), "images[1]", 1),
        (ask("<image>", image="a.png", images=["b.png"]), "images[1]", 1),
    ],
)
def test_number_of_places_that_differs_from_that_of_images_raises(row: Row, key: str, got: int) -> None:
    with pytest.raises(DataError) as caught:
        formats.sharegpt(row)
    assert (caught.value.key, caught.value.got) == (key, got)


def test_part_without_an_image_raises() -> None:
    turns = [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "A cat."}]
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": turns})
    assert caught.value.key == "messages"


def test_answer_that_shows_an_image_raises() -> None:
    turns = [
        {"role": "user", "content": "Draw."},
        {"role": "assistant", "content": [{"type": "image", "image": "a.png"}]},
    ]
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": turns})
    assert caught.value.key == "messages[2]"


def test_mark_is_text_in_an_answer_and_in_a_row_without_images() -> None:
    row = ask("<image>\nWhat is in the picture?", image="a.png")
    row["conversations"][1] = {"from": "gpt", "value": "<image> stands for it."}
    assert shown(formats.sharegpt(row))[1] == ("<image> stands for it.", ())
    assert shown(formats.sharegpt(ask("What does <image> mean?"))) == [
        ("What does <image> mean?", ()),
        ("A cat.", ()),
    ]


def test_column_of_json_text_is_a_list() -> None:
    row = ask("<image><image>", images='["a.png", "b.png"]')
    assert shown(formats.sharegpt(row))[0][1] == ("a.png", "b.png")
