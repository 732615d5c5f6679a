"""What is trained first is what the model must say first when it is asked."""

from typing import Any

import pytest

from xft.data.encoding.tokenize import encode_conversations, tokenize
from xft.errors import TemplateError
from xft.templates import SOURCES, ChatTemplate
from xft.types import IGNORE_INDEX, Conversation, Message

TOKENIZERS = ("internlm2_tokenizer", "llama3_tokenizer", "qwen3_tokenizer")
QUESTION = Message("user", "Where is it?")
JOINED = {"deepseek_v2_xtuner", "chatglm3"}
"""XTuner's prompt ends in a space, and ChatGLM 3's in a mark that only its own tokenizer keeps whole:
these tokenizers join what the prompt ends in with what stands behind it, so the ids of the prompt are
not those that stand before the answer."""


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", sorted(set(SOURCES) - JOINED))
def test_training_begins_where_the_prompt_ends(
    name: str, template: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Any = request.getfixturevalue(name)
    try:
        bound = ChatTemplate(SOURCES[template]).bind(tokenizer)
    except TemplateError:
        pytest.skip(f"{template} needs a token that {name} has not")
    [sample] = encode_conversations(
        [Conversation([QUESTION, Message("assistant", "Paris is big.", True)])], bound, tokenizer
    )
    assert not isinstance(sample, TemplateError)
    prompt = tokenize(tokenizer, [bound.render([QUESTION], generation=True)])[0].ids
    trained = (sample.labels != IGNORE_INDEX).tolist()  # type: ignore[union-attr]
    first = trained.index(True)
    assert sample.input_ids[: len(prompt)].tolist() == prompt  # type: ignore[union-attr]
    # An empty thinking block before the answer is masked by default.
    assert tokenizer.decode(sample.input_ids[len(prompt) : first]) in ("", "<think>\n\n</think>\n\n")  # type: ignore[union-attr]
    assert "Paris is big." in tokenizer.decode(sample.input_ids[first:])  # type: ignore[union-attr]
