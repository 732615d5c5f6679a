"""Encode the messages or the text of a request as a prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xft.data.formats.chat import openai
from xft.data.images.reading import MAX_PIXELS, decode_pixels, inspect_image
from xft.errors import ConfigError, DataError
from xft.models import TextGenerator
from xft.models.generation import images_of
from xft.serving.server.protocol import ApiError
from xft.serving.server.requests import Prompt
from xft.types import Conversation, Image, Messages

_CHARS_PER_TOKEN = 8
_CUT_TOKENS = 64
"""Upper bound of the number of tokens by which the cut at the end can increase the number of tokens."""


def encode_chat(
    generator: TextGenerator,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    max_tokens: int,
    chat_template_kwargs: Mapping[str, Any],
    system: str = "",
) -> Prompt:
    """Return the tokens of a prompt, and its decoded images.

    Runs in a thread: the template may be slow, the conversation long, an image large.

    Args:
        generator: model and template.
        messages: messages of the request.
        tools: tools of the request.
        max_tokens: limit; a prompt that is longer has more tokens than this, and may be cut.
        chat_template_kwargs: variables of the chat template.
        system: system message of conversations without one; empty for none.

    Raises:
        ApiError: the messages, their images or the variables of the template are invalid, or the template refuses them.
    """
    try:
        template = generator.template.with_kwargs(chat_template_kwargs)
    except (ConfigError, DataError) as error:
        param = "chat_template_kwargs"
        message = str(error) if str(error).startswith(param) else f"{param}: {error}"
        raise ApiError(400, message, param=param) from error
    try:
        has_system = bool(messages) and messages[0].get("role") in ("system", "developer")
        conversation = openai({"messages": list(messages), "system": "" if has_system else system})
        turns: Messages = conversation.messages if isinstance(conversation, Conversation) else conversation
        if turns[-1].role not in ("user", "tool"):
            raise ApiError(400, "messages: expected a user or tool message at the end", param="messages")
        images = _inspect_images(turns)
        text = generator.with_images(template.render(turns, generation=True, tools=tools), images)
    except DataError as error:
        message, param = str(error), "tools" if error.key == "tools" else "messages"
        raise ApiError(
            400, message if message.startswith(param) else f"{param}: {message}", param=param
        ) from error
    except RecursionError as error:
        raise ApiError(400, "messages: JSON in a text is nested too deeply", param="messages") from error
    ids = _tokenize(generator, text, max_tokens, add_special_tokens=False)
    # A prompt that is too long is refused later.
    return Prompt(ids, images if len(ids) > max_tokens else _decode_images(images))


def _inspect_images(turns: Messages) -> tuple[Image, ...]:
    """Inspect all images.

    Raises:
        DataError: an image cannot be used.
        ApiError: an image is a file of the server, or all images have too many pixels.
    """
    images = []
    for image in images_of(turns):
        if image.path:
            raise ApiError(400, f"{image.field}: expected a data URL of an image", param="messages")
        images.append(inspect_image(image, Path())[0])
    if sum(image.height * image.width for image in images) > MAX_PIXELS:
        raise ApiError(400, f"messages: expected images of at most {MAX_PIXELS:,} pixels", param="messages")
    return tuple(images)


def _decode_images(images: Sequence[Image]) -> tuple[Image, ...]:
    """Decode the pixels of all images. Why here: in the batch, an image would delay or fail other requests.

    Raises:
        ApiError: an image cannot be decoded.
    """
    try:
        return tuple([decode_pixels(image) for image in images])
    except DataError as error:
        raise ApiError(400, f"messages: {error}", param="messages") from error


def encode_text(generator: TextGenerator, text: str, max_tokens: int) -> list[int]:
    """Tokenize a text; special tokens are added unless the text already starts with the BOS token."""
    bos = generator.tokenizer.bos_token
    return _tokenize(generator, text, max_tokens, add_special_tokens=not (bos and text.startswith(bos)))


def _tokenize(generator: TextGenerator, text: str, max_tokens: int, add_special_tokens: bool) -> list[int]:
    """Return the tokens of a text, or more than ``max_tokens`` tokens of its beginning.

    Measured: the tokenizers of Qwen3 and Llama 3 take 2 to 8 seconds per megabyte. A text that is too long is detected
    from a beginning of some characters per token of the limit.
    """
    length = max(_CHARS_PER_TOKEN * max_tokens, 1)
    while True:
        ids = list(generator.tokenizer(text[:length], add_special_tokens=add_special_tokens)["input_ids"])
        if length >= len(text) or len(ids) > max_tokens + _CUT_TOKENS:
            return ids
        length *= 4
