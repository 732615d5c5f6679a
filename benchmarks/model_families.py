"""Measure the attention of every causal language model of transformers, and write the table of docs/models.md.

    python benchmarks/model_families.py                    # all families: about 20 minutes on two cores
    python benchmarks/model_families.py llama gpt_oss      # print the rows of some

Each family is measured by a tiny model of the default config of its class, as a model is measured before it is loaded
(:mod:`xft.models.checks`). Families with several kinds of layers that the default config lacks are measured with
these kinds too (see ``family_merge.VARIANTS``). The same tiny model is trained with LoRA, merged, and compared with the merged model in
plain transformers (:mod:`family_merge`).
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_table import write_between
from family_merge import TOLERANCE, TOLERANCE_FP64, compare_merged, family_config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from xft.errors import ModelError, XftError
from xft.models.checks.attention_checks import check_attention, choose_attention

MARKS = ("<!-- families -->", "<!-- end of families -->")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


@dataclass(frozen=True)
class Family:
    """How a family is loaded.

    Attributes:
        attention: the attention implementation.
        layout: of batches: packed, packed by samples, padded, refused, or not measured.
        generation: of answers: batched or single.
        note: the reason, or the modules that are computed sample by sample.
    """

    attention: str
    layout: str
    generation: str
    note: str


def measure(name: str) -> Family:
    """Measure a family as it is measured before it is loaded."""
    try:
        config = family_config(name)
        attention = choose_attention(config)
    except ModelError as error:
        return Family("–", "refused", "–", error.expected or str(error))
    except Exception as error:  # noqa: BLE001  Default configs of some classes are not valid by themselves.
        return Family(
            "–", "not measured", "–", f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        )
    check = check_attention(config, attention)
    generation = "batched" if check.pads_left else "single"
    if check.problem:
        return Family(attention, "not measured", generation, check.packing_problem[:120])
    if check.isolates:
        modules = ", ".join(f"`{segmented.name}`" for segmented in check.segmented)
        return Family(attention, "packed by samples" if modules else "packed", generation, modules)
    if check.pads:
        return Family(attention, "padded", generation, "")
    return Family(
        attention, "refused", generation, "samples of a batch are not kept apart, packed or padded"
    )


def measure_merge(name: str) -> str:
    """Return the error of a merged adapter in plain transformers, or the reason why there is none."""
    config = family_config(name)
    try:
        merged = compare_merged(config)
        if merged.error < TOLERANCE:
            return f"{merged.error:.0e}"
        exact = compare_merged(config, dtype=torch.float64)
    except XftError:
        return "refused"
    except Exception as error:  # noqa: BLE001
        return f"not measured ({type(error).__name__})"
    errors = f"{merged.error:.0e} ({exact.error:.0e} in fp64)"
    return errors if exact.error < TOLERANCE_FP64 else f"**wrong: {errors}**"


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
    lines = [
        "| family | attention | batches | generation | merged LoRA | note |",
        "|---|---|---|---|---|---|",
    ]
    answers: Counter[str] = Counter()
    begin = time.perf_counter()
    for name in names:
        family = measure(name)
        answers[family.layout] += 1
        note = family.note.replace("|", "/")
        merged = "–" if family.layout == "refused" else measure_merge(name)
        row = [f"`{name}`", family.attention, family.layout, family.generation, merged, note]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    summary = ", ".join(f"{count} {answer}" for answer, count in answers.most_common())
    print(f"{len(names)} families in {time.perf_counter() - begin:.0f} s: {summary}")
    if not arguments.families:
        write_between(PAGE, "\n".join(lines), MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
