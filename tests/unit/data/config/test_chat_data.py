"""What datasets of conversations share."""

from pathlib import Path

import pytest
from helpers.rows import decode, prepare, qa, write_rows

from xft.data import InstructionData, TextData
from xft.data.formats import alpaca
from xft.data.store.cache import callable_fingerprint
from xft.errors import ConfigError
from xft.templates import BoundTemplate


def test_system_starts_every_conversation_and_changes_the_cache(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write_rows(tmp_path, [qa(0), qa(1)])
    plain = prepare(InstructionData(path, val_split=None), chatml)
    with_system = prepare(InstructionData(path, val_split=None, system="Be brief."), chatml)
    texts = decode(with_system.train, chatml.tokenizer)
    assert all("<|im_start|>system\nBe brief.<|im_end|>" in text for text in texts)
    assert all("Be brief." not in text for text in decode(plain.train, chatml.tokenizer))
    assert (InstructionData(path, system="Be brief.").system_text, TextData(path).system_text) == (
        "Be brief.",
        "",
    )


def test_the_fingerprint_of_a_format_with_a_system_text_is_stable() -> None:
    options = [InstructionData("rows", alpaca, system=text).encoding_options() for text in ("a", "a", "b")]
    one, same, other = (callable_fingerprint(option.format) for option in options)
    assert one == same != other
    assert " at 0x" not in repr(one)


def test_max_overlong_fraction_out_of_range_raises() -> None:
    with pytest.raises(ConfigError) as caught:
        InstructionData("rows", max_overlong_fraction=1.5)
    assert caught.value.key == "data.max_overlong_fraction"
