"""Scalar heads: how a reward model is loaded, drawn, held, and padded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny, tiny_config
from transformers import AutoModelForSequenceClassification, BertConfig

from xft.errors import ModelError
from xft.models import NF4, LoRA, load_saved_model
from xft.models.loading import load_weights
from xft.models.reward_head import ScoreHead, is_reward_model, model_kind_of, set_pad_token
from xft.templates import SOURCES, ChatTemplate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    """A language model."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", byte_tokenizer)


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory, folder: Path, byte_tokenizer: Any) -> Path:
    """A reward model, written by transformers alone."""
    target = tmp_path_factory.mktemp("models") / "reward"
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).save_pretrained(target)
    byte_tokenizer.save_pretrained(target)
    return target


def _load(path: Path, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return load_model(path, reward=True, **options)


def test_a_new_head_is_drawn_from_the_seed_and_the_rest_is_the_language_models(folder: Path) -> None:
    one, same, other = _load(folder), _load(folder), _load(folder, seed=1)
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    assert float(one.score.weight.detach().std()) == pytest.approx(0.02, rel=0.4)
    language = load_weights(str(folder), torch.float32)
    for name, each in language.model.state_dict().items():
        assert torch.equal(each, one.model.state_dict()[name]), name


def test_out_of_a_reward_model_it_has_that_ones_head(reward: Path) -> None:
    expected = AutoModelForSequenceClassification.from_pretrained(reward).score.weight
    assert torch.equal(_load(reward).score.weight, expected)


@pytest.mark.parametrize("quantization", [None, NF4()])
def test_beside_an_adapter_the_head_is_fp32_and_not_quantised(
    folder: Path, quantization: NF4 | None
) -> None:
    adapter = LoRA(r=2, modules_to_save=["norm"])
    model = _load(folder, adapter=adapter, quantization=quantization, dtype="bfloat16")
    assert is_reward_model(model)
    heads = {name: each for name, each in model.named_parameters() if ".score." in name}
    assert {name.rpartition("score.")[2]: each.requires_grad for name, each in heads.items()} == {
        "original_module.weight": False,
        "modules_to_save.default.weight": True,
    }
    assert {each.dtype for each in heads.values()} == {torch.float32}
    assert adapter.modules_to_save == ["norm"]
    base = next(each for name, each in model.named_parameters() if "q_proj.base_layer" in name)
    assert base.dtype == (torch.bfloat16 if quantization is None else torch.uint8)
    ids = torch.arange(5, 20)[None]
    assert model(input_ids=ids).logits.dtype == torch.float32


def test_kinds_are_told_by_the_config_and_others_are_refused(folder: Path, reward: Path) -> None:
    assert isinstance(load_saved_model(str(reward)).model.score, ScoreHead)  # type: ignore[union-attr]
    assert not is_reward_model(load_saved_model(str(folder)).model)
    with pytest.raises(ModelError, match="is a reward model, whose head gives scores and no tokens"):
        load_weights(str(reward), torch.float32, kind="causal_lm")
    with pytest.raises(ModelError, match=r"is a reward model, which scores answers.*`xft score` tries it"):
        load_saved_model(str(reward), kind="causal_lm")
    with pytest.raises(ModelError, match=r"is a language model, which gives answers.*`xft chat` tries it"):
        load_saved_model(str(folder), kind="reward_model")


def test_a_classifier_and_models_without_a_score_are_refused(tmp_path: Path, byte_tokenizer: Any) -> None:
    many = tiny_config("llama", 300)
    many.num_labels = 3
    AutoModelForSequenceClassification.from_config(many).save_pretrained(tmp_path / "many")
    with pytest.raises(ModelError, match="sorts into 3 labels, expected a reward model"):
        load_weights(str(tmp_path / "many"), torch.float32)
    tiny_config("internlm3", 300).save_pretrained(tmp_path / "internlm3")
    with pytest.raises(ModelError, match="no class with a scalar head for 'internlm3'"):
        load_weights(str(tmp_path / "internlm3"), torch.float32, kind="reward_model")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = BertConfig(vocab_size=50, num_labels=1, **sizes)
    AutoModelForSequenceClassification.from_config(encoder).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError) as error:
        load_weights(str(tmp_path / "bert"), torch.float32)
    assert (error.value.key, error.value.got) == ("model.path", "bert")


LAST = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}{% endfor %}"
LAST += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def test_padding_is_never_what_ends_an_answer(make_byte_tokenizer: Callable[..., Any]) -> None:
    """With </s> as the end of the turn and for padding, transformers would read the token before it."""
    model = AutoModelForSequenceClassification.from_config(tiny_config("llama", 300))
    tokenizer = make_byte_tokenizer()
    assert tokenizer.pad_token == "</s>"
    set_pad_token(model, tokenizer, ChatTemplate(SOURCES["chatml"]).bind(tokenizer))
    assert tokenizer.pad_token == "</s>"  # a line break ends it here
    assert model.config.pad_token_id == tokenizer.eos_token_id
    set_pad_token(model, tokenizer, ChatTemplate(LAST).bind(tokenizer))
    assert tokenizer.pad_token == "<s>"
    assert model.config.pad_token_id == tokenizer.bos_token_id


def test_without_another_special_token_one_is_asked_for(make_byte_tokenizer: Callable[..., Any]) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config("llama", 300))
    tokenizer = make_byte_tokenizer(specials=())
    tokenizer.bos_token = None
    source = LAST.replace("<|im_start|>", "@")
    with pytest.raises(ModelError, match=r"model\.additional_special_tokens=\['<pad>'\]"):
        set_pad_token(model, tokenizer, ChatTemplate(source).bind(tokenizer))


def test_kind_of() -> None:
    for name, kind in (
        ("LlamaForSequenceClassification", "reward_model"),
        ("LlamaForCausalLM", "causal_lm"),
    ):
        config = tiny_config("llama", 300)
        config.architectures = [name]
        assert model_kind_of(config) == kind
    assert model_kind_of(tiny_config("llama", 300)) == "causal_lm"
