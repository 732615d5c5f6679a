"""How near answers come to their references, over a whole file: exact match, BLEU, ROUGE."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from xft.errors import ConfigError
from xft.evaluation.scorers import exact
from xft.evaluation.text_normalization import words
from xft.models import Completion

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def check_installed() -> None:
    """Say at once what is missing.

    Raises:
        ConfigError: a library of the metrics is not installed.
    """
    missing = [name for name in ("sacrebleu", "rouge_score") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"eval --data: {' and '.join(missing)} is not installed: pip install -r requirements/eval.txt"
        )


def compare_texts(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of answers against one reference each.

    Args:
        answers: what a model said.
        references: what it should have said, in the same order.

    Returns:
        ``exact_match`` (from 0 to 1; see the scorer ``exact``), ``bleu`` and ``chrf`` of the whole corpus
        (from 0 to 100, by sacrebleu: Post 2018, https://arxiv.org/abs/1804.08771), and the means of
        ``rouge1``, ``rouge2`` and ``rougeL`` (F1 from 0 to 1: Lin 2004,
        https://aclanthology.org/W04-1013). Chinese is cut into characters for BLEU and ROUGE.
    """
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer: Any = RougeScorer(kinds, tokenizer=Words())
    scores = [
        scorer.score(reference, answer) for answer, reference in zip(answers, references, strict=True)
    ]
    chinese = sum(bool(_HAN.search(each)) for each in references) * 2 > len(references)
    bleu = sacrebleu.corpus_bleu(list(answers), [list(references)], tokenize="zh" if chinese else "13a")
    chrf = sacrebleu.corpus_chrf(list(answers), [list(references)])
    matches = [
        exact(Completion(answer, "stop", 0), reference)
        for answer, reference in zip(answers, references, strict=True)
    ]
    return {
        "exact_match": sum(matches) / len(matches),
        "bleu": bleu.score,
        "chrf": chrf.score,
        **{kind: sum(each[kind].fmeasure for each in scores) / len(scores) for kind in kinds},
    }


class Words:
    """Cuts a text into words for ROUGE, of any script: the library's own knows Latin letters only, and
    gives 0 for all others."""

    def tokenize(self, text: str) -> list[str]:
        """Words in lower case; each Chinese or Japanese character is one."""
        return words(text.casefold())
