"""Replace each image placeholder in rendered text with the number of image tokens that an image of its size needs."""

from collections.abc import Sequence

from xft.errors import DataError
from xft.types import IMAGE_PLACE, Image, ImageProcessor, Segment


def expand_text(text: str, images: Sequence[Image], processor: ImageProcessor) -> str:
    """Replace the image placeholders in a rendered prompt, as in :func:`expand_placeholders`.

    Raises:
        DataError: the number of placeholders differs from the number of images.
    """
    return expand_placeholders([Segment(text, is_target=False)], images, processor)[0].text


def expand_placeholders(
    segments: Sequence[Segment], images: Sequence[Image], processor: ImageProcessor
) -> list[Segment]:
    """Replace each image placeholder with the number of image tokens that an image of its height and width needs.

    Args:
        segments: rendered conversation. Its placeholders are ``IMAGE_PLACE``, or ``processor.token`` if the template
            writes images itself.
        images: images in the order of their placeholders.
        processor: image processor of the model.

    Returns:
        The segments. Without images, they are unchanged.

    Raises:
        DataError: the number of placeholders differs from the number of images (the text spells the image token, or the
            template drops an image), or a target segment has a placeholder.
    """
    token = processor.token
    texts = [segment.text.replace(IMAGE_PLACE, processor.placeholder) for segment in segments]
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
