"""Measure the attention of every causal language model of transformers, and write the table of docs/models.md.

    python benchmarks/model_families.py                    # all families: about 10 minutes on two cores
    python benchmarks/model_families.py llama gpt_oss      # print the rows of some

Each family is measured by a tiny model of the default config of its class, as :mod:`xft.models.capability` measures a
model before it is loaded. Families with several kinds of layers that the default config lacks are measured with
these kinds too (see ``VARIANTS``).
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from bench_table import write_between
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from xft.errors import ModelError
from xft.models.capability import check_attention, choose_attention

MARKS = ("<!-- families -->", "<!-- end of families -->")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
VARIANTS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "mistral": {"sliding_window": 4096},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 16},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
}
"""Options that real models of a family set, and that the default config leaves out."""


def family_config(name: str) -> PretrainedConfig:
    """Return the default config of a family, with the options of ``VARIANTS``."""
    config: PretrainedConfig = CONFIG_MAPPING[name](**VARIANTS.get(name, {}))
    return config


def measure(name: str) -> tuple[str, str, str]:
    """Return how a family is loaded: attention, packing, and the reason if it is not packed."""
    try:
        config = family_config(name)
        attention = choose_attention(config)
    except ModelError as error:
        return "–", "refused", error.expected or str(error)
    except Exception as error:  # noqa: BLE001  Default configs of some classes are not valid by themselves.
        return "–", "not measured", f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    check = check_attention(config, attention)
    if check.isolates:
        return attention, "yes", ""
    return attention, "not measured" if check.problem else "no", check.packing_problem


def main() -> int:
    """Measure, print the rows, and write the table if all families were measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help="model types of transformers; all by default")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers_logging.set_verbosity_error()
    names = arguments.families or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    lines = ["| family | attention | packed | why not |", "|---|---|---|---|"]
    answers: Counter[str] = Counter()
    begin = time.perf_counter()
    for name in names:
        attention, packed, reason = measure(name)
        answers[packed] += 1
        lines.append(f"| `{name}` | {attention} | {packed} | {reason.replace('|', '/')} |")
        print(lines[-1], flush=True)
    summary = ", ".join(f"{count} {answer}" for answer, count in answers.most_common())
    print(f"{len(names)} families in {time.perf_counter() - begin:.0f} s; packed: {summary}")
    if not arguments.families:
        write_between(PAGE, "\n".join(lines), MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
