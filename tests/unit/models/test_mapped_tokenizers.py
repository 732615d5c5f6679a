import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.mapped_models import baichuan_config, internlm2_config
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xft.errors import ModelError
from xft.models.loading import load_tokenizer
from xft.models.portable_files import make_portable

SPECIAL = {92542: "<|im_end|>", 92543: "<|im_start|>"}
"""Tokens of InternLM2 that take the ids of unused pieces of its vocabulary."""


def _token(content: str, special: bool = True) -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": content, "special": special, **flags}


@pytest.fixture
def internlm2(shared: Path, tmp_path: Path) -> Path:
    """The files of an InternLM2 repository, with the official SentencePiece model."""
    source = shared / "tokenizers" / "internlm2" / "tokenizer.model"
    if not source.is_file():
        pytest.skip(f"{source} is absent")
    shutil.copyfile(source, tmp_path / "tokenizer.model")
    fields = {
        "added_tokens_decoder": {str(index): _token(text) for index, text in SPECIAL.items()},
        "additional_special_tokens": list(SPECIAL.values()),
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.A", "tokenization_internlm2_fast.B"]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "tokenizer_class": "InternLM2Tokenizer",
        "unk_token": "<unk>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    (tmp_path / "config.json").write_text(json.dumps(internlm2_config(92544)))
    return tmp_path


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_internlm2_tokens_equal_sentencepiece(internlm2: Path, trust_remote_code: bool) -> None:
    tokenizer: Any = load_tokenizer(str(internlm2), trust_remote_code)
    original = SentencePieceProcessor(model_file=str(internlm2 / "tokenizer.model"))
    assert len(tokenizer) == len(original) == 92544
    for text in ("Hello world", "  a\n\tb ", "你好，世界", "é😀", "def f(x):\n    return x"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == original.encode(text)
        assert tokenizer.decode(ids) == text
    turn = tokenizer.encode("<|im_start|>user\nhi<|im_end|>", add_special_tokens=False)
    assert turn == [92543, *original.encode("user\nhi"), 92542]
    assert tokenizer.encode("hi") == [1, *original.encode("hi")]


def test_saved_internlm2_tokenizer_needs_no_code(internlm2: Path, tmp_path: Path) -> None:
    tokenizer: Any = load_tokenizer(str(internlm2))
    folder = tmp_path / "saved"
    tokenizer.save_pretrained(folder)
    make_portable(folder)
    fields = json.loads((folder / "tokenizer_config.json").read_text())
    assert "auto_map" not in fields
    assert fields["tokenizer_class"] == "PreTrainedTokenizerFast"
    text = "<|im_start|>user\n你好<|im_end|>\n"
    saved = [AutoTokenizer.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)]
    (folder / "config.json").write_text(json.dumps(internlm2_config(92544)))
    for other in (*saved, load_tokenizer(str(folder), trust_remote_code=True)):
        assert other.encode(text) == tokenizer.encode(text)


@pytest.fixture
def baichuan(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The files of a Baichuan repository, with a small SentencePiece model; the parameter adds a dummy prefix."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world how are you", "你好 世界"] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=310,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=request.param,
        user_defined_symbols=["<reserved_106>", "<reserved_107>"],
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    special = {name: "</s>" if name == "eos_token" else "<s>" for name in ("bos_token", "eos_token")}
    fields = {
        "add_bos_token": False,
        "auto_map": {"AutoTokenizer": ["tokenization_baichuan.BaichuanTokenizer", None]},
        "pad_token": "<unk>",
        "tokenizer_class": "BaichuanTokenizer",
        "unk_token": "<unk>",
        **special,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    (tmp_path / "config.json").write_text(json.dumps(baichuan_config(310)))
    return tmp_path


@pytest.mark.parametrize("baichuan", [False], indirect=True)
def test_baichuan_tokens_equal_sentencepiece(baichuan: Path) -> None:
    tokenizer: Any = load_tokenizer(str(baichuan))
    original = SentencePieceProcessor(model_file=str(baichuan / "tokenizer.model"))
    for text in ("hello world", " how  are", "<reserved_106>你好<reserved_107>", "é"):
        assert tokenizer.encode(text) == original.encode(text)


@pytest.mark.parametrize("baichuan", [True], indirect=True)
def test_sentencepiece_model_with_dummy_prefix_raises_model_error(baichuan: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_tokenizer(str(baichuan))
    assert error.value.key == "model.tokenizer"
