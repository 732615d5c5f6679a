"""Use a processor of transformers without its part for videos, which needs torchvision, and without a text."""

import inspect
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from transformers import AutoProcessor, PretrainedConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

_VIDEO = "video_processor"


def load_processor(source: str, config: PretrainedConfig, **options: Any) -> ProcessorMixin:
    """Load the processor of a model.

    Args:
        source: a folder or the name of a model on the hub.
        config: config of the model.
        options: arguments of ``from_pretrained``.
    """
    processor_class: Any = PROCESSOR_MAPPING.get(type(config), None)
    loader: Any = AutoProcessor
    if processor_class is not None and find_spec("torchvision") is None:
        loader = without_video(processor_class)
    processor: ProcessorMixin = loader.from_pretrained(source, **options)
    return processor


def without_video(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a subclass of the same name that needs no video processor, if the class accepts that."""
    names = processor_class.get_attributes()
    video = inspect.signature(processor_class).parameters.get(_VIDEO)
    if _VIDEO not in names or video is None or video.default is inspect.Parameter.empty:
        return processor_class
    kept = [name for name in names if name != _VIDEO]
    methods = {"get_attributes": classmethod(lambda _: kept), "__module__": processor_class.__module__}
    return type(processor_class.__name__, (processor_class,), methods)


def process_images(processor: Any, images: Sequence[Sequence[Any]]) -> tuple[dict[str, Any], list[str]]:
    """Process images as the call of the processor does, which needs a text too.

    Args:
        processor: of transformers.
        images: pictures of each sample.

    Returns:
        Inputs of the model by name, and the text that replaces the placeholder of each picture.
    """
    options = processor._merge_kwargs(
        tokenizer_init_kwargs=processor.tokenizer.init_kwargs, return_tensors="pt"
    )["images_kwargs"]
    inputs, texts = processor._process_images([list(shown) for shown in images], **options)
    unused = processor.unused_input_names
    return {name: value for name, value in inputs.items() if name not in unused}, texts


def count_image_tokens(processor: Any, size: tuple[int, int]) -> int:
    """Return the number of tokens that a processor states for a picture of ``size`` (height and width)."""
    return int(processor._get_num_multimodal_tokens(image_sizes=[size])["num_image_tokens"][0])
