"""GGUF files, looked at with the reader of ``gguf`` and loaded by plain transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from helpers.tiny import tiny_config
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, Qwen2Config

from xft.cli import main
from xft.errors import ConfigError
from xft.export import convert
from xft.models import load_saved_model

FAMILIES = ["llama", "internlm3", "qwen3", "qwen2", "mistral"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _save(folder: Path, family: str, tokenizer: Any, tied: bool = True) -> Path:
    rows = len(tokenizer) + 8  # more than there are tokens, as many models have
    shape = tiny_config("llama", rows).to_dict()
    sizes = {
        each: shape[each]
        for each in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        )
    }
    if family in ("qwen2", "mistral"):
        kind = Qwen2Config if family == "qwen2" else MistralConfig
        extra = {"sliding_window": None} if family == "mistral" else {}
        config = kind(**sizes, num_key_value_heads=2, tie_word_embeddings=tied, **extra)
    else:
        config = tiny_config(family, rows)
        config.tie_word_embeddings = tied
    if family == "qwen3":
        config.head_dim = 128  # what every Qwen3 has, and transformers' reader takes for granted
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for (
        weight
    ) in model.parameters():  # no norm of ones, no bias of zeros, which a mistake would not show in
        weight.data += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    before = tokenizer.chat_template
    tokenizer.chat_template = before or CHATML
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = before
    return folder


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_read_back_as_it_was(family: str, tmp_path: Path, byte_level: Any) -> None:
    """On vocabularies of bytes, since readers take seconds for large ones."""
    tokenizer = sentencepiece_like() if family == "internlm3" else byte_level
    source = _save(tmp_path / "model", family, tokenizer, tied=family != "mistral")
    convert(str(source), str(tmp_path / "out"), gguf="f32")
    fields = GGUFReader(tmp_path / "out" / "model.gguf").fields
    assert fields["general.architecture"].contents() == (family if "qwen" in family else "llama")
    assert fields["tokenizer.ggml.model"].contents() == ("llama" if family == "internlm3" else "gpt2")
    assert len(fields["tokenizer.ggml.tokens"].contents()) == len(tokenizer) + 8
    original = AutoModelForCausalLM.from_pretrained(source)
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="model.gguf", dtype=torch.float32
    )
    again = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    text = "<|im_start|>user\nStraße 12345, d'accord?\n 再见<|im_end|>\n<|im_start|>assistant\n"
    ids = again(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(_logits(read, ids), _logits(original, ids), rtol=1e-4, atol=1e-4)


@pytest.fixture
def byte_level() -> Any:
    """Bytes as characters, and a few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [("Ġ", "a"), ("u", "s"), ("e", "r"), ("us", "er"), ("t", "o")]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(each) for each in merges)]
    made = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def sentencepiece_like() -> Any:
    """A vocabulary as SentencePiece has it: bytes for what it does not know, ``▁`` for a space, merges."""
    from transformers import LlamaTokenizer

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [("▁", "u"), ("s", "e"), ("se", "r"), ("▁u", "ser"), ("a", "s"), ("e", "r"), ("a", "n")]
    pieces += ["".join(each) for each in merges] + ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = LlamaTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges, add_prefix_space=True
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@pytest.mark.parametrize(("kind", "size"), [("f16", 2), ("bf16", 2), ("q8_0", 34 / 32)])
def test_a_smaller_type_is_as_small_as_it_says_and_near(
    kind: str, size: float, tmp_path: Path, byte_level: Any
) -> None:
    source = _save(tmp_path / "model", "llama", byte_level)
    convert(str(source), str(tmp_path / "out"), gguf=kind)
    reader = GGUFReader(tmp_path / "out" / "model.gguf")
    table = next(each for each in reader.tensors if each.name == "token_embd.weight")
    original = AutoModelForCausalLM.from_pretrained(source).get_input_embeddings().weight
    assert table.n_bytes == int(original.numel() * size)
    assert {each.tensor_type.name for each in reader.tensors if each.name.endswith("norm.weight")} == {
        "F32"
    }


def test_an_adapter_is_merged_and_ollama_is_told_the_template_and_where_to_stop(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(finished_run), str(out), "--gguf", "f32"]) == 0
    said = capsys.readouterr().out
    assert "merged vs. adapter" in said
    assert "wrote the GGUF file" in said
    assert sorted(each.name for each in out.iterdir()) == ["Modelfile", "README.md", "model.gguf"]
    tuned = load_saved_model(str(finished_run))
    ids = torch.arange(5, 45)[None]
    read = AutoModelForCausalLM.from_pretrained(out, gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(_logits(read, ids), _logits(tuned.model, ids), rtol=1e-4, atol=1e-4)
    text = (out / "Modelfile").read_text()
    assert text.startswith('FROM ./model.gguf\nTEMPLATE """')
    assert text.endswith('<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n')
    fields = GGUFReader(out / "model.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == tuned.tokenizer.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tuned.tokenizer.convert_tokens_to_ids(
        "<|im_end|>"
    )


def test_what_cannot_be_written_or_is_not_read_back_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte_level: Any
) -> None:
    out, tokenizer = str(tmp_path / "out"), byte_level
    tiny_model = _save(tmp_path / "model", "llama", tokenizer)
    with pytest.raises(ConfigError) as error:
        convert(str(tiny_model), out, gguf="f32", merged=True)
    assert (error.value.key, error.value.got) == ("--gguf", "--merge or --dtype in addition")
    from transformers import GPT2Config

    other = tmp_path / "gpt2"
    AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)
    ).save_pretrained(other)
    tokenizer.save_pretrained(other)
    with pytest.raises(ConfigError) as error:
        convert(str(other), out, gguf="f32")
    assert (error.value.key, error.value.got) == ("--gguf", "model_type 'gpt2'")
    monkeypatch.setattr("xft.export.gguf.writer.permute_rope", lambda weight, heads: weight)
    assert main(["convert", str(tiny_model), out, "--gguf", "f32"]) == 5
    assert not Path(out).exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["gpt2", "model"]


def test_llama_cpp_answers_as_the_run_does(finished_run: Path, tmp_path: Path) -> None:
    """Its own tokenizer, chat template and arithmetic, in the file alone: the likeliest token each time."""
    llama_cpp = pytest.importorskip(
        "xllamacpp", reason="llama.cpp's bindings are not installed: pip install xllamacpp"
    )
    convert(str(finished_run), str(tmp_path / "out"), gguf="f32")
    options = llama_cpp.CommonParams()
    options.model.path = str(tmp_path / "out" / "model.gguf")
    options.n_ctx, options.n_parallel, options.warmup, options.verbosity = 512, 1, False, 0
    server = llama_cpp.Server(options)
    loaded = load_saved_model(str(finished_run))
    for question in ("Say number 3", "Who are you? 再见"):
        turns = [{"role": "user", "content": question}]
        ids = loaded.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        chatted = server.handle_chat_completions({"messages": turns, "max_tokens": 1})
        assert chatted["usage"]["prompt_tokens"] == len(ids)
        ended = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
        wanted = loaded.model.generate(
            input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=8, eos_token_id=ended
        )[0, len(ids) :].tolist()
        asked = {"prompt": ids, "max_tokens": 8, "temperature": 0, "logprobs": 1}
        found = [
            each["id"] for each in server.handle_completions(asked)["choices"][0]["logprobs"]["content"]
        ]
        assert [each for each in found if each != ended] == [each for each in wanted if each != ended]
        assert len(found) > 1
