import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_images import FakeProcessor
from helpers.generators import EchoGenerator, tiny_generator
from helpers.pictures import encoded, picture
from helpers.tiny import save_tiny

from xft.errors import DataError, ModelError
from xft.models import ModelMetadata, TextGenerator
from xft.serving import Session, open_session
from xft.types import IMAGE_PLACE, Message


def _turns(session: Session) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in session.history]


def test_ask_sends_system_and_history_and_appends_the_answer() -> None:
    generator = EchoGenerator("> ")
    session = Session(generator, system="Be brief.")
    assert list(session.ask("a")) == ["> ", "A"]
    list(session.ask("b"))
    assert _turns(session) == [("user", "a"), ("assistant", "> A"), ("user", "b"), ("assistant", "> B")]
    assert generator.conversations[1] == [("system", "Be brief."), *_turns(session)[:3]]


def test_interrupted_answer_stays_in_the_history_as_far_as_it_was_streamed() -> None:
    session = Session(EchoGenerator("first "))
    stream = session.ask("a")
    next(stream)
    stream.close()
    assert _turns(session) == [("user", "a"), ("assistant", "first")]


def test_answer_that_fails_before_its_first_piece_leaves_the_history_unchanged() -> None:
    class Failing(EchoGenerator):
        def stream(self, *args: Any, **options: Any) -> Any:
            raise RuntimeError("out of memory")
            yield ""

    session = Session(Failing())
    with pytest.raises(RuntimeError):
        list(session.ask("a"))
    assert session.history == []


def test_pop_last_turn_returns_the_message_and_removes_its_answer() -> None:
    session = Session(EchoGenerator())
    assert session.pop_last_turn() is None
    for text in "ab":
        list(session.ask(text))
    assert session.pop_last_turn() == "b"
    assert _turns(session) == [("user", "a"), ("assistant", "A")]
    session.reset()
    assert session.history == []


def test_ask_once_neither_reads_nor_changes_the_history(generator: TextGenerator) -> None:
    session = Session(generator, max_new_tokens=4)
    alone = session.ask_once("Hi")
    session.history = [Message("user", "a"), Message("assistant", "b")]
    assert session.ask_once("Hi") == alone
    assert len(session.history) == 2


def test_without_adapter_of_full_model_raises_model_error(generator: TextGenerator) -> None:
    with pytest.raises(ModelError):
        Session(generator).without_adapter()


def test_open_session_loads_model_and_template_of_a_folder(
    tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    expected = tiny_generator(tmp_path / "model", make_byte_tokenizer)
    session = open_session(str(tmp_path / "model"), system="Be brief.", max_new_tokens=4)
    assert session.conversation("Hi") == [Message("system", "Be brief."), Message("user", "Hi")]
    conversation = [Message("user", "Hi")]
    assert session.generator.encode(conversation) == expected.encode(conversation)


def test_open_session_has_the_system_message_of_the_training(
    tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    folder = tmp_path / "model"
    tiny_generator(folder, make_byte_tokenizer)
    metadata = ModelMetadata("base", "float32", system="Be brief.")
    (folder / "xft_metadata.json").write_text(json.dumps(asdict(metadata)))
    user = Message("user", "Hi")
    assert open_session(str(folder)).conversation("Hi") == [Message("system", "Be brief."), user]
    assert open_session(str(folder), system="").conversation("Hi") == [user]
    assert open_session(str(folder), system="Own.").conversation("Hi") == [Message("system", "Own."), user]


def test_open_session_of_model_without_chat_template_raises_model_error(
    tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    folder = save_tiny(tmp_path / "model", "llama", make_byte_tokenizer())
    with pytest.raises(ModelError) as error:
        open_session(str(folder))
    assert error.value.key == "chat_template"


def seeing() -> EchoGenerator:
    """A generator that accepts images."""
    generator = EchoGenerator("saw: ")
    generator.processor = FakeProcessor()
    return generator


def test_images_belong_to_the_next_message(tmp_path: Path) -> None:
    session = Session(seeing())
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(20, 30)))
    image = session.attach(str(path))
    assert image.size == (20, 30)
    list(session.ask("what?"))
    list(session.ask("why?"))
    assert [message.images for message in session.history] == [(image,), (), (), ()]
    assert session.history[0].content == f"{IMAGE_PLACE}what?"
    assert session.pop_last_turn() == "why?"
    assert session.images == []
    assert session.pop_last_turn() == "<image>what?"
    assert session.images == [image]
    session.reset()
    assert session.images == []


def test_unusable_image_is_not_attached(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(20, 30)))
    for generator, name in ((seeing(), "absent.png"), (EchoGenerator(), "a.png")):
        session = Session(generator)
        with pytest.raises(DataError) as caught:
            session.attach(str(tmp_path / name))
        assert caught.value.key == "image"
        assert session.images == []
