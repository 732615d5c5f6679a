"""Load models on several ranks, by rows and in full, and compare them.

The script gets a file JOBS with a list of jobs, which the first rank answers in ``JOBS.done`` with a list of problems of
each, empty where both models are equal.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from helpers.forked import run_on_ranks

IDS = [[1, 5, 9, 3, 2, 8]]


def compare_on_ranks(folder: Path, jobs: list[dict[str, Any]], ranks: int) -> list[list[str]]:
    """Load each model in both ways on several ranks. Returns the problems of each."""
    file = folder / "loading.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    done = run_on_ranks(ranks, Path(__file__), str(file))
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    problems: list[list[str]] = json.loads((folder / "loading.json.done").read_text(encoding="utf-8"))
    return problems


def main(file: Path) -> None:
    """Compare the models of a file on this rank."""
    from torch import distributed

    distributed.init_process_group("gloo")
    answers = []
    for job in json.loads(file.read_text(encoding="utf-8")):
        begun = time.perf_counter()
        problems: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(problems, compare(**job))
        print("took", job, time.perf_counter() - begun, flush=True)
        answers.append([f"rank {rank}: {text}" for rank, texts in enumerate(problems) for text in texts])
    if distributed.get_rank() == 0:
        file.with_name(f"{file.name}.done").write_text(json.dumps(answers), encoding="utf-8")
    distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # as in helpers.ranks


def compare(
    path: str,
    nf4: dict[str, Any] | None = None,
    adapter: dict[str, Any] | None = None,
    kind: str = "causal_lm",
    new_tokens: int = 0,
) -> list[str]:
    """Return the differences of a model that is loaded by rows and in full.

    Args:
        path: model folder.
        nf4: options of NF4; ``None`` reads the weights as they are saved.
        adapter: options of LoRA.
        kind: kind to load the model as.
        new_tokens: number of tokens, the last ones of the vocabulary, whose embeddings are trained.
    """
    import torch
    from torch import Tensor
    from torch.distributed.tensor import DTensor

    from xft.distributed.sharded import rows_of_rank
    from xft.models import NF4, LoRA, TrainingModel
    from xft.models.loading import load_weights
    from xft.models.param_shapes import quant_state
    from xft.models.sharded_reading import full_tensor
    from xft.objectives import next_token
    from xft.optim import adamw, build_optimizer
    from xft.strategies import FSDP2Config

    def load() -> Any:
        quantization = None if nf4 is None else NF4(**nf4)
        torch.manual_seed(0)  # a new head is random
        return load_weights(
            path, torch.float32, quantization=quantization, device=torch.device("cpu"), kind=kind
        )

    def attach(model: Any) -> Any:
        torch.manual_seed(1)
        size = model.config.vocab_size
        return LoRA(**{"r": 2, **(adapter or {})}).apply(model, list(range(size - new_tokens, size)))

    config = FSDP2Config(device="cpu")
    expected = load()
    with config.model_init_context(torch.float32, nf4 is not None):
        model = load()
    problems = []
    full = dict(expected.named_parameters())
    if full.keys() != dict(model.named_parameters()).keys():
        return ["other names"]
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for name, param in model.named_parameters():
        other = full[name].detach().as_subclass(Tensor)
        if not isinstance(param, DTensor):
            if name != "score.weight" or not torch.equal(param, other):
                problems.append(f"{name} is full, or has other values")
            continue
        start, stop = rows_of_rank(len(other), rank, ranks)
        gathered = full_tensor(param)  # by all ranks, also if one finds a difference
        if not _same_bits(param.to_local(), other[start:stop]) or not _same_bits(gathered, other):
            problems.append(f"{name} has other values")
        if nf4 is None and param.requires_grad != full[name].requires_grad:
            problems.append(f"{name}: requires_grad={param.requires_grad}")
        problems += _state_problems(name, quant_state(param), quant_state(full[name]))
    adapted, plain = attach(model), attach(expected)
    problems += _adapter_problems(adapted, plain)
    strategy = config.build(str(Path(path)), 0)
    optimizer = build_optimizer(adamw, adapted)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    strategy.prepare(TrainingModel(adapted, next_token), optimizer=optimizer, lr_scheduler=lr_scheduler)
    ids = torch.tensor(IDS)
    with torch.no_grad():
        logits = adapted.eval()(input_ids=ids).logits
        if not torch.allclose(logits, plain.eval()(input_ids=ids).logits, rtol=1e-5, atol=1e-6):
            problems.append("other logits")
    return problems


def _adapter_problems(found: Any, expected: Any) -> list[str]:
    """Compare the trainable weights, and check that frozen weights of adapted layers are rows again."""
    from torch.distributed.tensor import DTensor

    problems, full = [], dict(expected.named_parameters())
    for name, param in found.named_parameters():
        if param.requires_grad != full[name].requires_grad:
            problems.append(f"{name}: requires_grad={param.requires_grad}")
        elif param.requires_grad and not _same_bits(param, full[name]):
            problems.append(f"{name} has other values in the adapter")
        elif "_proj.base_layer" in name and not isinstance(param, DTensor):
            problems.append(f"{name} is full after the adapter is attached")
    return problems


def _same_bits(first: Any, second: Any) -> bool:
    """Compare tensors, of which some hold packed numbers in a floating-point type."""
    import torch

    return first.dtype == second.dtype and torch.equal(
        *(tensor.contiguous().view(torch.uint8) for tensor in (first, second))
    )


def _state_problems(name: str, found: Any, expected: Any) -> list[str]:
    """Compare quantization states, with the scales of the scales."""
    import torch

    if found is None or expected is None:
        return [] if found is expected else [f"{name} is quantized in one of the models only"]
    first, second = found.as_dict(), expected.as_dict()
    same = {
        key: torch.equal(first[key], value) if isinstance(value, torch.Tensor) else first[key] == value
        for key, value in second.items()
    }
    return [f"{name}: other {key}" for key, is_same in same.items() if not is_same]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
