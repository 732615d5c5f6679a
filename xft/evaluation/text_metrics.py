"""Compare generated answers with references over a whole file: exact match, BLEU, chrF, ROUGE."""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from xft.errors import ConfigError
from xft.evaluation.scorers import exact
from xft.evaluation.text_normalization import tokenize
from xft.models import Completion

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def check_installed() -> None:
    """Raise if a library of the metrics is not installed.

    Raises:
        ConfigError: The missing libraries.
    """
    missing = [name for name in ("sacrebleu", "rouge_score") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"eval --data: {' and '.join(missing)} not installed: pip install -r requirements/eval.txt",
            key="--data",
            got=missing,
        )


def compare_texts(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Compute metrics of answers against one reference each.

    Args:
        answers: generated answers.
        references: reference answers, in the same order.

    Returns:
        ``exact_match`` (0 to 1; scorer ``exact``), ``bleu`` and ``chrf`` of the corpus (0 to 100, sacrebleu: Post 2018,
        https://arxiv.org/abs/1804.08771), and the means of ``rouge1``, ``rouge2`` and ``rougeL`` (F1, 0 to 1: Lin 2004,
        https://aclanthology.org/W04-1013). BLEU and ROUGE treat each Chinese character as a word.
    """
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    metrics = ["rouge1", "rouge2", "rougeL"]
    scorer: Any = RougeScorer(metrics, tokenizer=RougeTokenizer())
    pairs = list(zip(answers, references, strict=True))
    scores = [scorer.score(reference, answer) for answer, reference in pairs]
    chinese = sum(bool(_HAN.search(reference)) for reference in references) * 2 > len(references)
    bleu = sacrebleu.corpus_bleu(list(answers), [list(references)], tokenize="zh" if chinese else "13a")
    chrf = sacrebleu.corpus_chrf(list(answers), [list(references)])
    matches = [exact(Completion(answer, "stop", 0), reference) for answer, reference in pairs]
    return {
        "exact_match": sum(matches) / len(matches),
        "bleu": bleu.score,
        "chrf": chrf.score,
        **{metric: sum(score[metric].fmeasure for score in scores) / len(scores) for metric in metrics},
    }


class RougeTokenizer:
    """Tokenizer for ROUGE that supports all scripts; the default of rouge_score drops all but Latin letters."""

    def tokenize(self, text: str) -> list[str]:
        """Return lower-case words; each Chinese or Japanese character is one."""
        return tokenize(text.casefold())
