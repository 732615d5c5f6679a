"""Sharding over devices: DeepSpeed, FSDP, and parallelism over the sequence."""

import re

from xft.migration.arguments import Arguments
from xft.migration.values import count, switch, text

_SIZES = ("dp_shard_size", "dp_replicate_size")
_BUILT_IN = "fsdp2 of xft wraps every decoder layer, and saves ordinary folders"
_DEEPSPEED_REST = (
    "the other keys of DeepSpeed follow from the config; strategy.config_file takes a JSON file as it is"
)
_STAGE = re.compile(r"z(?:ero)?_?(?:stage)?_?([0-3])")


def import_distribution(values: Arguments) -> None:
    """Take over DeepSpeed, FSDP and the size of the sequence-parallel group."""
    draft = values.draft
    if isinstance(values.peek("deepspeed"), str):
        _deepspeed_file(values)
    elif "deepspeed" in values:
        _deepspeed_section(values)
    _fsdp(values)
    if draft.get("strategy.type") in ("deepspeed", "fsdp2") and "8bit" in str(draft.get("optimizer.type")):
        how = "adamw: state of 8 bits cannot be sharded"
        draft.change(values.find("optim", "optimizer"), how, "optimizer.type", "adamw")
    keys = ("context_parallel_size", "sequence_parallel_degree", "sequence_parallel_size")
    key, size = values.find(*keys), values.read(count, *keys)
    if size is not None and size > 1:
        if draft.get("strategy.type") not in ("deepspeed", "fsdp2"):
            draft.set("strategy.type", "ddp")
        draft.take(key, "strategy.sequence_parallel_size", size)
    elif size is not None:
        draft.note(key, "1: no parallelism over the sequence")


def _deepspeed_file(values: Arguments) -> None:
    """Take over a JSON file by its name: its stage, and whether it offloads."""
    draft, key = values.draft, values.full_name("deepspeed")
    name = values.read(text, "deepspeed") or ""
    stage = _STAGE.search(name.lower())
    _use(values, "deepspeed")
    if stage is None:
        how = "ZeRO-2: the name of the file does not say the stage; strategy.config_file takes a JSON file as it is"
        draft.change(key, how, "strategy.zero_stage", 2)
    else:
        draft.take(key, "strategy.zero_stage", int(stage[1]), "by the name of the file")
    if "offload" in name.lower():
        draft.take(key, "strategy.offload", "all" if draft.get("strategy.zero_stage") == 3 else "optimizer")


def _deepspeed_section(values: Arguments) -> None:
    """Take over a section of DeepSpeed: stage and offloading."""
    draft, options = values.draft, values.section("deepspeed")
    if not options.unread:
        return
    zero = options.section("zero_optimization")
    _use(values, "deepspeed")
    stage_key, stage = zero.full_name("stage"), zero.read(_stage, "stage")
    draft.take(stage_key, "strategy.zero_stage", stage or 0)
    offloads = {name: zero.peek(f"offload_{name}") for name in ("optimizer", "param")}
    on = [name for name, part in offloads.items() if isinstance(part, dict) and part.get("device") == "cpu"]
    keys = tuple(zero.full_name(f"offload_{name}") for name in ("optimizer", "param") if offloads[name])
    zero.pop("offload_optimizer")
    zero.pop("offload_param")
    if on:
        draft.take(keys, "strategy.offload", "all" if "param" in on else "optimizer")
    elif keys:
        draft.note(keys, "nothing is offloaded to the CPU")
    for section in (zero, options):
        section.note(_DEEPSPEED_REST, *section.unread)


def _stage(value: object) -> int:
    if isinstance(value, bool) or value not in (0, 1, 2, 3):
        raise ValueError("a stage from 0 to 3")
    return int(value)


def _fsdp(values: Arguments) -> None:
    """Take over FSDP of either version."""
    draft = values.draft
    keys = tuple(values.full_name(key) for key in ("fsdp", *_SIZES, "fsdp_version") if key in values)
    options = values.section("fsdp_config")
    sizes = [values.read(count, key) or 1 for key in _SIZES]
    is_on = bool(values.pop("fsdp") or options.unread) or max(sizes) > 1
    values.pop("fsdp_version")
    keys = keys or (values.full_name("fsdp_config"),)
    is_deepspeed = draft.get("strategy.type") == "deepspeed"
    if is_on and is_deepspeed:
        draft.note(keys, "deepspeed has priority")
    elif is_on and (unsupported := _not_under_fsdp2(values)):
        how = f"ZeRO-3 of DeepSpeed, which shards the same tensors: fsdp2 has no {unsupported}"
        _use(values, "deepspeed")
        draft.change(keys, how, "strategy.zero_stage", 3)
    elif is_on:
        _use(values, "fsdp2")
        draft.take(keys, "strategy.type", "fsdp2")
        _fsdp_options(options)
    elif keys[0] in draft.keys:
        draft.note(keys, "off")
    options.note(_BUILT_IN, *options.unread)
    values.note(_BUILT_IN, *(key for key in values.unread if key.startswith("fsdp_")))


def _fsdp_options(options: Arguments) -> None:
    for names, path in (
        (("offload_params", "fsdp_offload_params"), "strategy.cpu_offload"),
        (("reshard_after_forward", "fsdp_reshard_after_forward"), "strategy.reshard_after_forward"),
    ):
        key = options.find(*names)
        if isinstance(options.peek(key.rpartition(".")[2]), (bool, int)):
            options.take(path, switch, *names)


def _use(values: Arguments, kind: str) -> None:
    """Set the type of the strategy, and keep its other keys."""
    draft = values.draft
    kept = draft.get("strategy") or {}
    draft.set("strategy", {**kept, "type": kind})


def _not_under_fsdp2(values: Arguments) -> str:
    """Return what fsdp2 does not support of a config; empty if there is nothing."""
    draft = values.draft
    if draft.get("model.type") == "vision_language":
        return "vision-language models"
    if draft.get("quantization.type") == "int8":
        return "int8"
    return "muon" if draft.get("optimizer.type") == "muon" else ""
