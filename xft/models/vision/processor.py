"""Image processor of a vision-language model: tokens from sizes alone, and inputs of the model from pixels."""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PretrainedConfig
from transformers.utils.hub import cached_file

from xft.compat.processors import count_image_tokens, load_processor, process_images
from xft.data.images.reading import read_pixels
from xft.data.store.token_store import digest
from xft.errors import ModelError, XftError
from xft.models.hub import hub_options, load_error, resolve_path
from xft.templates.jinja_env import TemplateRenderer, special_tokens_of
from xft.types import IGNORE_INDEX, IMAGE_PLACE, Image, ImageInputs, Message, Sample, Tokenizer

_PROBE_SIZES = ((32, 32), (40, 200), (200, 40), (90, 160), (224, 224), (333, 250), (480, 640), (1000, 700))
"""Sizes at which the count that a processor states is compared with the tokens that it writes."""
_LEARN_AFTER = 16
"""Number of distinct sizes after which the comparison pays off."""
_VIDEO_FILE = "video_preprocessor_config.json"


class VisionProcessor:
    """Convert images for one vision-language model, with the processor of transformers.

    Args:
        path: folder or hub name of the model.
        config: of the model.
        tokenizer: of the model; it replaces that of the processor.
        trust_remote_code: run Python code from the model folder.
        options: options of the image processor, such as ``max_pixels``.

    Raises:
        ModelError: there is no processor, or it does not write placeholders as text.
    """

    def __init__(
        self,
        path: str,
        config: PretrainedConfig,
        tokenizer: Tokenizer,
        trust_remote_code: bool = False,
        options: dict[str, int] | None = None,
    ) -> None:
        self._source = resolve_path(path)
        try:
            self.processor: Any = load_processor(
                self._source, config, **hub_options(self._source, trust_remote_code), **(options or {})
            )
        except Exception as error:
            raise ModelError(load_error("processor", path, error)) from error
        token = getattr(self.processor, "image_token", None)
        if not isinstance(token, str) or "image_processor" not in self.processor.get_attributes():
            raise ModelError(
                key="model.path",
                got=f"{path} with a {type(self.processor).__name__}",
                expected="a processor of transformers that has an image token",
            )
        self._check_options(options or {})
        self.processor.tokenizer = tokenizer
        self.token = token
        self.token_ids: frozenset[int] = frozenset(
            number for number in self.processor.image_token_ids if number is not None
        )
        self.placeholder = self._find_placeholder(tokenizer)
        self.fingerprint = self._hash()
        self._texts: dict[tuple[tuple[int, int], ...], list[str]] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._formula: Callable[[tuple[int, int]], str] | None = None
        self._learned = False
        self._depends_on_count = self._write([(40, 40)]) * 2 != self._write([(40, 40)] * 2)
        self._rope: Callable[..., tuple[Tensor, Tensor]] | None = None
        self._names: set[str] = set()
        self.filler: Sample | None = None

    def _check_options(self, options: dict[str, int]) -> None:
        known = type(self.processor.image_processor).valid_kwargs.__annotations__
        for name, value in options.items():
            if name not in known:
                raise ModelError(
                    key=f"model.{name}",
                    got=value,
                    expected=f"None: {type(self.processor.image_processor).__name__} has no such limit",
                )

    def bind(self, model: nn.Module) -> None:
        """Use the position ids of a model, which depend on the sizes of images for some, and its forward arguments."""
        base: Any = model
        self._rope = getattr(base.base_model, "get_rope_index", None)
        self._names = set(inspect.signature(base.forward).parameters)
        self._names |= set(inspect.signature(base.base_model.forward).parameters)

    def expand(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """Return the text that replaces ``token``, for each image of a sample by height and width."""
        if self._depends_on_count and len(sizes) > 1:
            return self._cached(tuple(sizes))
        return [self._cached((size,))[0] for size in sizes]

    def count_tokens(self, size: tuple[int, int]) -> int:
        """Return the number of tokens of an image by height and width, those that delimit it included."""
        if size not in self._counts:
            text = self.placeholder.replace(self.token, self._cached((size,))[0])
            self._counts[size] = len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._counts[size]

    def _cached(self, sizes: tuple[tuple[int, int], ...]) -> list[str]:
        if sizes not in self._texts:
            if len(self._texts) >= _LEARN_AFTER and not self._learned:
                self._formula, self._learned = self._find_formula(), True
            formula = self._formula if len(sizes) == 1 else None
            self._texts[sizes] = self._write(sizes) if formula is None else [formula(sizes[0])]
        return self._texts[sizes]

    def _write(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """Return the texts that the processor writes for white pictures of some sizes."""
        pictures = [Pillow.new("RGB", (width, height), "white") for height, width in sizes]
        return process_images(self.processor, [pictures])[1]

    def _find_formula(self) -> Callable[[tuple[int, int]], str] | None:
        """Return a function of the size that needs no picture; ``None`` if the text depends on more than a count.

        Measured for the sizes of :data:`_PROBE_SIZES`: the text is one token, repeated, between two fixed texts, and
        the processor states the number of tokens.
        """
        unit = str(self.processor.tokenizer.convert_ids_to_tokens(min(self._repeated())))
        try:
            stated = [count_image_tokens(self.processor, size) for size in _PROBE_SIZES]
            texts = [self._write([size])[0] for size in _PROBE_SIZES]
        except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError):
            return None
        counts = [text.count(unit) for text in texts]
        first, _, rest = texts[0].partition(unit)
        last = rest[len(unit) * (counts[0] - 1) :]
        extra = stated[0] - counts[0]
        if any(
            text != f"{first}{unit * count}{last}" for text, count in zip(texts, counts, strict=True)
        ) or any(count + extra != number for count, number in zip(counts, stated, strict=True)):
            return None
        return lambda size: f"{first}{unit * (count_image_tokens(self.processor, size) - extra)}{last}"

    def _repeated(self) -> set[int]:
        """Return the id that a picture repeats most often."""
        ids = self.processor.tokenizer(self._write([(64, 64)])[0], add_special_tokens=False)["input_ids"]
        return {max(set(ids), key=ids.count)}

    def _find_placeholder(self, tokenizer: Tokenizer) -> str:
        """Return the text that the model's own chat template writes for an image.

        Of a model without one, it is a line of its own, as in LLaVA.
        """
        default = f"{self.token}\n"
        source = tokenizer.chat_template or self.processor.chat_template
        if not isinstance(source, str):
            return default
        try:
            renderer = TemplateRenderer(source, special_tokens_of(tokenizer), datetime.now())
            plain, shown = (
                renderer.render([Message("user", f"{place}question")]) for place in ("", IMAGE_PLACE)
            )
        except XftError:
            return default
        before, _, after = plain.partition("question")
        inner = shown.removeprefix(before).removesuffix(f"question{after}")
        return (
            inner
            if inner.count(self.token) == 1 and before + inner + f"question{after}" == shown
            else default
        )

    def _hash(self) -> str:
        fields = {name: str(value) for name, value in self.processor.to_dict().items()}
        fields["image_processor"] = self.processor.image_processor.to_json_string()
        text = json.dumps([type(self.processor).__name__, transformers.__version__, fields], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def model_inputs(self, samples: Sequence[Sample], length: int | None) -> ImageInputs:
        """Read the pixels of some samples, and return the further inputs of the model for a batch of them.

        Raises:
            DataError: an image cannot be decoded, or was changed since the data was prepared.
        """
        tensors = self._read(samples)
        per_token: dict[str, Tensor] = {}
        types = [self._types(sample) for sample in samples]
        if "token_type_ids" in self._names:
            per_token["token_type_ids"] = _join(types, length)
        if self._rope is not None and tensors:
            per_token["position_ids"] = _join(self._positions(samples, types, tensors), length)
        return ImageInputs(tensors, per_token)

    def _read(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the pixels of all images, and their sizes as the model needs them; nothing without an image."""
        shown = [[read_pixels(image) for image in sample.images] for sample in samples if sample.images]
        inputs = process_images(self.processor, shown)[0] if shown else {}
        return {name: value for name, value in inputs.items() if name in self._names}

    def generation_inputs(self, prompts: Sequence[Sample]) -> dict[str, Tensor]:
        """Read the pixels of prompts padded on the left, and return the further arguments of ``generate``.

        Raises:
            DataError: an image cannot be decoded.
        """
        length = max(len(prompt) for prompt in prompts)
        types = torch.cat([pad(self._types(prompt), (length - len(prompt), 0)) for prompt in prompts])
        names = [name for name in ("mm_token_type_ids", "token_type_ids") if name in self._names]
        return self._read(prompts) | dict.fromkeys(names, types)

    def _types(self, sample: Sample) -> Tensor:
        """Return ``(1, length)`` of 1 for tokens of an image and 0 for text."""
        return torch.from_numpy(np.isin(sample.input_ids, list(self.token_ids)).astype(np.int64))[None]

    def _positions(
        self, samples: Sequence[Sample], types: Sequence[Tensor], inputs: dict[str, Tensor]
    ) -> list[Tensor]:
        """Return the position ids of each sample, ``(3, 1, length)``, as if it were alone (M-RoPE)."""
        assert self._rope is not None
        grids = inputs["image_grid_thw"]
        ends = np.cumsum([0, *(len(sample.images) for sample in samples)]).tolist()
        positions = []
        for sample, kinds, (begin, end) in zip(samples, types, pairwise(ends), strict=True):
            if begin == end:
                positions.append(torch.arange(len(sample)).expand(3, 1, -1))
                continue
            ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
            positions.append(self._rope(ids, mm_token_type_ids=kinds, image_grid_thw=grids[begin:end])[0])
        return positions

    def sample(self, text: str, pictures: Sequence[Pillow.Image]) -> Sample:
        """Return a sample of a text and the pictures after it, without targets."""
        images = []
        for picture in pictures:
            buffer = BytesIO()
            picture.save(buffer, "PNG")
            data = buffer.getvalue()
            images.append(Image(data=data, height=picture.height, width=picture.width, digest=digest(data)))
        for expanded in self.expand([image.size for image in images]):
            text += self.placeholder.replace(self.token, expanded)
        ids = np.array(
            self.processor.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32
        )
        return Sample(ids, np.full_like(ids, IGNORE_INDEX), images=tuple(images))

    def save(self, folder: Path) -> None:
        """Write the files of the processor, those of the part for videos unchanged."""
        self.processor.save_pretrained(folder)
        options: dict[str, Any] = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
        video = cached_file(self._source, _VIDEO_FILE, **options)
        if video is not None and not (folder / _VIDEO_FILE).exists():
            (folder / _VIDEO_FILE).write_bytes(Path(video).read_bytes())
        source = cached_file(self._source, "processor_config.json", **options)
        target = folder / "processor_config.json"
        before = json.loads(Path(source).read_text(encoding="utf-8")) if source is not None else {}
        after = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
        if "video_processor" in before and "video_processor" not in after:
            after["video_processor"] = before["video_processor"]
            target.write_text(json.dumps(after, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _join(pieces: Sequence[Tensor], length: int | None) -> Tensor:
    """Concatenate ``(..., 1, tokens)`` tensors along the last dimension, or pad them to rows of one length."""
    if length is None:
        return torch.cat(list(pieces), dim=-1)
    return torch.cat([pad(piece, (0, length - piece.shape[-1])) for piece in pieces], dim=-2)
