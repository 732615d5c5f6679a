"""`convert` as a user types it: folders that plain peft and plain transformers load."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import save_tiny, write_config, write_rows
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from xft.cli import main
from xft.export import convert
from xft.models import load_saved_model


@pytest.fixture(scope="module")
def trained(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a larger adapter, so that what it adds cannot be overlooked."""
    run = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(finished_run, run, symlinks=True)
    file = run / "final" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: each + 0.05 * torch.ones_like(each) for name, each in weights.items()}, file)
    return run


def _convert(source: Path, out: Path, **options: Any) -> None:
    """As the command does, but verified in this process, which is some seconds faster."""
    convert(str(source), str(out), subprocess=False, **options)


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 45)[None]).logits.float()  # type: ignore[no-any-return]


def test_a_merged_model_is_the_adapter_on_its_base(
    trained: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    capsys.readouterr()
    assert main(["convert", str(trained), str(out), "--merge"]) == 0
    said = capsys.readouterr().out
    assert "adapter norms ‖ΔW‖ of 14 layers: min " in said
    assert "merged vs. adapter over 2 sample questions: KL " in said
    assert "(limit 1e-06),\n" in said
    assert "; adapter vs. base: KL " in said
    merged = AutoModelForCausalLM.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    untouched = _logits(base)
    expected = _logits(PeftModel.from_pretrained(base, str(trained / "final")))
    # fp32: W + B A is rounded once instead of W x + B A x
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-4, atol=1e-4)
    assert (expected - untouched).abs().max() > 0.1


def test_the_exported_folder_has_tokenizer_template_and_stop_ids(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _convert(trained, out, merged=True)
    tokenizer = AutoTokenizer.from_pretrained(out)
    turns = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_an_adapter_is_loaded_by_plain_peft_without_a_word_of_ours(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    _convert(trained, out)
    plain = AutoPeftModelForCausalLM.from_pretrained(str(out), dtype=torch.float32)
    torch.testing.assert_close(_logits(plain), _logits(load_saved_model(str(trained)).model))


def test_fully_trained_modules_keep_their_precision(tiny_run: Path, tmp_path: Path) -> None:
    """On a base in bf16 they are saved in fp32; the merged model has one dtype."""
    run, plain, merged = (tmp_path / name for name in ("run", "plain", "merged"))
    options = [
        "model.dtype=bfloat16",
        "adapter.modules_to_save=[lm_head,model.norm]",
        "training.max_steps=2",
    ]
    assert main(["train", str(tiny_run), "--work-dir", str(run), *options]) == 0
    _convert(run, plain)
    _convert(run, merged, merged=True)
    before, after = (load_file(each / "adapter_model.safetensors") for each in (run / "final", plain))
    assert {each.dtype for each in before.values()} == {torch.float32}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    weights = load_file(merged / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.bfloat16}
    for name in ("lm_head.weight", "model.norm.weight"):
        assert torch.equal(weights[name], before[f"base_model.model.{name}"].to(torch.bfloat16))


def test_dtype_and_shard_size_are_what_was_asked_for(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _convert(trained, out, merged=True, dtype="bfloat16", max_shard_size="100KB")
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert {each.dtype for each in load_file(shards[0]).values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


def test_an_adapter_on_a_quantised_base_is_merged_into_that_base(
    tiny_run: Path, tmp_path: Path, tiny_model: Path
) -> None:
    tiny_run.write_text(tiny_run.read_text() + 'quantization = dict(type="nf4")\n')
    run, out = tmp_path / "run", tmp_path / "out"
    assert (
        main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", "training.max_steps=2"]) == 0
    )
    _convert(run, out, merged=True)
    merged = _logits(AutoModelForCausalLM.from_pretrained(out))
    quantised = _logits(load_saved_model(str(run)).model)
    torch.testing.assert_close(merged, quantised, rtol=1e-3, atol=1e-3)
    on_original = _logits(
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), run / "final")
    )
    assert (merged - on_original).abs().max() > (merged - quantised).abs().max()


@pytest.mark.parametrize("wrong", ["lost", "doubled"])
def test_a_merge_that_is_not_the_adapter_leaves_nothing(
    trained: Path,
    tmp_path: Path,
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def merge(model: Any) -> Any:
        if wrong == "lost":
            return model.unload()
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.data *= 2
        return model.merge_and_unload()

    monkeypatch.setattr(sys.modules["xft.export.convert"], "merge", merge)
    assert main(["convert", str(trained), str(tmp_path / "out"), "--merge"]) == 5
    error = capsys.readouterr().err
    assert "the merged model differs from the adapter on its base" in error
    assert "Try --dtype float32, or keep the adapter" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_adapter_that_has_learnt_nothing_is_not_exported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    _convert(trained, adapter)
    file = adapter / "adapter_model.safetensors"
    save_file(
        {name: 0 * each if "lora_B" in name else each for name, each in load_file(file).items()}, file
    )
    capsys.readouterr()
    for option in ([], ["--merge"]):
        assert main(["convert", str(adapter), str(tmp_path / "out"), *option]) == 5
        assert "zeros in all 14 layers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rounding_that_takes_much_of_what_the_adapter_does_is_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An update far smaller than the distance of neighbours in bf16 is lost in a merge."""
    adapter = tmp_path / "adapter"
    _convert(trained, adapter)
    file = adapter / "adapter_model.safetensors"
    save_file(
        {name: 1e-4 * each if "lora_B" in name else each for name, each in load_file(file).items()}, file
    )
    capsys.readouterr()
    _convert(adapter, tmp_path / "out", merged=True, dtype="bfloat16")
    assert "warning: the rounding error of the merged weights is large" in capsys.readouterr().out


def test_what_cannot_be_written_is_said_and_leaves_nothing(
    trained: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    cases = [
        ([str(trained), str(full), "--merge"], "expected a new or empty folder"),
        ([str(tiny_model), str(tmp_path / "o1"), "--merge"], "--merge: got "),
        ([str(trained), str(tmp_path / "o2"), "--dtype", "float16"], "--dtype: got "),
        ([str(tmp_path / "none"), str(tmp_path / "o3")], "does not exist"),
    ]
    for arguments, message in cases:
        assert main(["convert", *arguments]) != 0
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full"]
    assert (full / "file").read_text() == "mine"


def test_an_adapter_for_another_model_is_refused(
    trained: Path, tmp_path: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny(tmp_path / "other", "qwen3", tiny_tokenizer)
    config = json.loads((other / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    rows = write_rows(tmp_path / "rows.jsonl", 8)
    wide = write_config(tmp_path / "c.py", other, rows, "training.update(max_steps=1)\n")
    options = ["--cfg-options", "adapter.target_modules=['q_proj']"]
    assert main(["train", str(wide), "--work-dir", str(tmp_path / "run"), *options]) == 0
    capsys.readouterr()
    llama = trained / "final"
    assert (
        main(["chat", str(other), "--adapter", str(llama), "--prompt", "Hi", "--max-new-tokens", "1"]) == 0
    )
    broken = tmp_path / "run" / "final"
    settings = json.loads((broken / "adapter_config.json").read_text())
    settings["target_modules"] = ["q_proj", "v_proj"]
    (broken / "adapter_config.json").write_text(json.dumps(settings))
    assert main(["chat", str(broken), "--prompt", "Hi"]) == 4
    assert "does not fit the model" in capsys.readouterr().err
