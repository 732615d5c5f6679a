"""Expand the places of images in rendered text to the tokens of their sizes."""

from collections.abc import Sequence

from xft.errors import DataError
from xft.types import IMAGE_PLACE, Image, ImageProcessor, Segment


def expand_text(text: str, images: Sequence[Image], processor: ImageProcessor) -> str:
    """Replace the place of each image in a rendered prompt by the tokens of its size.

    Raises:
        DataError: as in :func:`expand_places`.
    """
    return expand_places([Segment(text, is_target=False)], images, processor)[0].text


def expand_places(
    segments: Sequence[Segment], images: Sequence[Image], processor: ImageProcessor
) -> list[Segment]:
    """Replace the place of each image by the tokens of its size.

    Args:
        segments: rendered conversation, in which the template has written ``processor.token`` for each image.
        images: images in their order.
        processor: of the model.

    Raises:
        DataError: the text spells the token of an image elsewhere, or the template drops an image.
    """
    token = processor.token
    texts = [segment.text.replace(IMAGE_PLACE, processor.place) for segment in segments]
    count = sum(text.count(token) for text in texts)
    if count != len(images):
        raise DataError(
            f"the text has {token!r} {count} times for {len(images)} images; expected it once for an image. Remove it "
            "from the text, or use a chat template that supports images",
            key="images",
            got=count,
            expected=str(len(images)),
        )
    if any(segment.is_target and token in text for segment, text in zip(segments, texts, strict=True)):
        raise DataError(
            f"an answer spells {token!r}; expected it in questions only", key="images", got=token
        )
    if not images:
        return list(segments)
    replacements = iter(processor.expand([image.size for image in images]))
    expanded = []
    for segment, text in zip(segments, texts, strict=True):
        first, *others = text.split(token)
        pieces = [first]
        for piece in others:
            pieces += [next(replacements), piece]
        expanded.append(Segment("".join(pieces), segment.is_target))
    return expanded
