"""Run one training of `benchmark.py` in its own process: xft, TRL, unsloth or LLaMA-Factory.

At module level, this file imports only the standard library and `bench_monitor`, because it also runs in
environments without xft. All frameworks train one epoch of the same rows at a constant learning rate. Tokens and
times are recorded at the forward pass of the model, and the same code computes the validation loss for all.
"""

import json
import os
import resource
import sys
import time
from importlib import import_module, metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from bench_monitor import Watch, validation_loss

PACKAGES = (
    *(
        "torch",
        "transformers",
        "peft",
        "trl",
        "unsloth",
        "llamafactory",
        "bitsandbytes",
        "liger_kernel",
        "flash_attn",
    ),
)


def train_xft(job: dict[str, Any], watch: Watch, finish: Any) -> None:
    """Train with `xft train`, from a config file."""
    from mmengine.hooks import Hook

    from xft.cli import main

    class Clock(Hook):
        def before_train(self, runner: Any) -> None:
            watch.begin()

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
            seen = outputs["tokens"], outputs["target_tokens"]
            watch.end_step(total=seen[0], tokens=seen[0], targets=seen[1])

        def after_train(self, runner: Any) -> None:
            finish(runner.unwrapped_model)

    module: Any = ModuleType("benchmark_clock")
    module.Clock = Clock
    sys.modules["benchmark_clock"] = module
    adapter = {"type": "lora", "r": job["rank"], "lora_alpha": 2 * job["rank"]}
    tuning = {"adapter": None if job["tuning"] == "full" else adapter}
    if job["tuning"] == "qlora":
        tuning["quantization"] = {"type": "nf4"}
    if job["tuning"] == "full" and job["dtype"] == "bfloat16":
        tuning["strategy"] = {"type": "single_device", "mixed_precision": "bf16"}
    model = {"type": "causal_lm", "path": job["model"], "dtype": _weight_dtype(job)}
    model |= {"gradient_checkpointing": job["checkpointing"], **job["options"].pop("model", {})}
    data = {"type": "instruction", "path": job["rows"], "format": "alpaca", "val_split": None}
    data |= {"max_length": job["length"], "packing": True, "num_workers": 1}
    keys: dict[str, Any] = {
        "model": model,
        **tuning,
        **job["options"],
        "data": data,
        "training": {
            "epochs": 1,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "min_steps_per_epoch": 0,
        },
        "optimizer": {"type": "adamw", "lr": job["lr"]},
        "lr_scheduler": {"type": "constant", "warmup_steps": 0},
        "hooks": {"clock": {"type": "benchmark_clock.Clock"}},
        "eval_prompts": [],
    }
    config = Path(job["folder"]) / "config.py"
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in keys.items()), encoding="utf-8")
    if main(["train", str(config), "--work-dir", str(config.parent / "run"), "--debug"]) != 0:
        sys.exit("xft failed")


def _weight_dtype(job: dict[str, Any]) -> str:
    """Return the dtype of the weights: fp32 where all of them are trained, and computed in bf16 by autocast."""
    return "float32" if job["tuning"] == "full" else str(job["dtype"])


def _callback(watch: Watch, finish: Any) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["model"].register_forward_pre_hook(watch.see, with_kwargs=True)
            watch.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.end_step()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            finish(kwargs["model"])

    return Clock()


def _question(row: dict[str, str]) -> str:
    return "\n".join(filter(None, (row["instruction"], row["input"])))


def _sft_trainer(job: dict[str, Any], watch: Watch, finish: Any, model: Any, **more: Any) -> Any:
    """Build TRL's SFTTrainer with the loss on answers only; ``options`` are passed to SFTConfig."""
    import torch
    from datasets import Dataset

    trl: Any = import_module("trl")
    load: dict[str, Any] = {"dtype": getattr(torch, _weight_dtype(job))}
    if torch.cuda.is_available() and find_spec("flash_attn") is not None:
        load["attn_implementation"] = "flash_attention_2"
    if job["tuning"] == "qlora":
        from transformers import BitsAndBytesConfig

        load["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, job["dtype"]),
        )
    rows = json.loads(Path(job["rows"]).read_text(encoding="utf-8"))
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": _question(each)}],
                "completion": [{"role": "assistant", "content": each["output"]}],
            }
            for each in rows
        ]
    )
    arguments = trl.SFTConfig(
        output_dir=job["folder"],
        num_train_epochs=1,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        max_length=job["length"],
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs=load if isinstance(model, str) else None,
        disable_tqdm=True,
        gradient_checkpointing=job["checkpointing"],
        **job["options"],
    )
    callbacks = [_callback(watch, finish)]
    return trl.SFTTrainer(model, args=arguments, train_dataset=data, callbacks=callbacks, **more)


def train_trl(job: dict[str, Any], watch: Watch, finish: Any) -> None:
    """Train with TRL; ``options`` are passed to SFTConfig."""
    trl: Any = import_module("trl")
    adapter = trl.ModelConfig(
        use_peft=True,
        lora_r=job["rank"],
        lora_alpha=2 * job["rank"],
        lora_dropout=0.0,
        lora_target_modules=["all-linear"],
    )
    adapter.lora_target_modules = "all-linear"
    peft_config = None if job["tuning"] == "full" else trl.get_peft_config(adapter)
    _sft_trainer(job, watch, finish, job["model"], peft_config=peft_config).train()


def train_unsloth(job: dict[str, Any], watch: Watch, finish: Any) -> None:
    """Train with unsloth and the TRL trainer that it patches.

    ``options`` are passed to TRL's SFTConfig, except ``compile``, which compiles each layer. On a CPU, unsloth reads
    this setting from the environment.
    """
    os.environ["UNSLOTH_CPU_COMPILE"] = "1" if job["options"].pop("compile", False) else "0"
    # Imported before TRL and transformers, which it patches. By default it adapts all linear layers except the head.
    loader: Any = import_module("unsloth").FastLanguageModel
    import torch

    checkpointing = "unsloth" if job["checkpointing"] else False
    model, tokenizer = loader.from_pretrained(
        job["model"],
        max_seq_length=job["length"],
        dtype=getattr(torch, job["dtype"]),
        load_in_4bit=job["tuning"] == "qlora",
        full_finetuning=job["tuning"] == "full",
        use_gradient_checkpointing=checkpointing,
    )
    if job["tuning"] != "full":
        model = loader.get_peft_model(
            model,
            r=job["rank"],
            lora_alpha=2 * job["rank"],
            lora_dropout=0.0,
            use_gradient_checkpointing=checkpointing,
        )
    _sft_trainer(job, watch, finish, model, processing_class=tokenizer).train()


def _stand_ins() -> None:
    """Register stubs of torchvision and torchaudio.

    LLaMA-Factory imports both, and their CUDA builds do not load with a CPU build of torch. Text needs neither.
    """
    import torch

    if torch.cuda.is_available():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
    _KEPT.append(library)


_KEPT: list[Any] = []
"""References to operator libraries; torch drops a library that is not referenced."""


def train_llamafactory(job: dict[str, Any], watch: Watch, finish: Any) -> None:
    """Train with LLaMA-Factory; ``options`` are added to its config."""
    _stand_ins()
    tuner: Any = import_module("llamafactory.train.tuner")

    folder = Path(job["folder"])
    info = {"rows": {"file_name": job["rows"]}}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    arguments = {
        "model_name_or_path": job["model"], "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "lora_rank": job["rank"], "lora_alpha": 2 * job["rank"], "lora_target": "all", "lora_dropout": 0.0,
        "dataset": "rows", "dataset_dir": str(folder), "template": job["template"], "cutoff_len": job["length"],
        "output_dir": str(folder / "out"), "learning_rate": job["lr"], "lr_scheduler_type": "constant",
        "num_train_epochs": 1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
        "bf16": job["dtype"] == "bfloat16", "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "disable_gradient_checkpointing": not job["checkpointing"], "disable_tqdm": True, **job["options"],
    }  # fmt: skip
    tuner.run_exp(arguments, callbacks=[_callback(watch, finish)])


def matrix_rate(dtype: str, clock: str, size: int, rounds: int = 12) -> float:
    """Return the FLOP/s of the product of two square matrices, the best of several rounds."""
    import torch

    read = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, two = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))
    best = 0.0
    for _ in range(rounds):
        _synchronize()
        begun = read()
        for _ in range(3):
            one @ two
        _synchronize()
        best = max(best, 3 * 2 * size**3 / (read() - begun))
    return best


def _synchronize() -> None:
    """Wait until a GPU has done its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> int:
    """Return the largest memory so far in bytes: of the tensors on the GPU, or of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def main() -> None:
    """Run the job of the first file and write the results to the second."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(sys.argv[2])
    if job["kind"] == "matrices":
        out.write_text(
            json.dumps({"rate": matrix_rate(job["dtype"], job["clock"], job.get("size", 2048))}),
            encoding="utf-8",
        )
        return
    watch = Watch(_synchronize)
    found: dict[str, Any] = {}

    def finish(model: Any) -> None:
        found["peak"] = peak_memory()
        found["loss"] = validation_loss(model, job["validation"])
        found["steps"] = watch.steps
        found["versions"] = _versions()
        out.write_text(json.dumps(found), encoding="utf-8")
        if not job["save"]:
            os._exit(0)  # Frameworks save the model at the end, which is not measured.

    kinds = {
        "xft": train_xft,
        "trl": train_trl,
        "unsloth": train_unsloth,
        "llamafactory": train_llamafactory,
    }
    kinds[job["kind"]](job, watch, finish)


if __name__ == "__main__":
    main()
