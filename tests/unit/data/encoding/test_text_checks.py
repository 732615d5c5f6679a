"""Special tokens and unknown characters in texts."""

from typing import Any

import numpy as np

from xft.data.encoding.text_checks import TextChecks


def test_special_tokens_in_texts_are_found(byte_tokenizer: Any) -> None:
    checks = TextChecks(byte_tokenizer)
    token = byte_tokenizer.all_special_tokens[0]
    assert checks.has_specials(["text", f"a {token} b"])
    assert not checks.has_specials(["text"])


def test_unknown_characters_are_counted_by_the_unknown_token(smollm2_tokenizer: Any) -> None:
    checks = TextChecks(smollm2_tokenizer)
    unknown = smollm2_tokenizer.unk_token_id
    assert checks.has_unknown("x", [np.array([unknown])])
    assert not checks.has_unknown(smollm2_tokenizer.unk_token, [np.array([unknown])])
    assert not checks.has_unknown("x", [np.array([5])])
