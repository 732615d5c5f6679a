"""What a saved model is judged by, and the limits of a merged one."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import pair_samples, plain_scores, reward_model
from torch.nn.functional import kl_div

from xft.errors import CheckpointError
from xft.export.merge_check import INT8, LIMITS, Limits, compare_merged, limits, read_probes
from xft.export.verify import Expected, compare, judge
from xft.export.verify_worker import ANSWERS, PROBE, Found, logits_of
from xft.templates import SOURCES, ChatTemplate


def _pair(scale: float = 1.0) -> tuple[Expected, Found]:
    torch.manual_seed(0)
    logits = torch.randn(1, 7, 50)
    norms = {"up": 0.5, "down": 2.0}
    expected = Expected(["text"], [[1, 2]], [3], norms, logits)
    return expected, Found(["text"], [[1, 2]], [3], dict(norms), False, logits * scale)


def test_the_same_model_passes() -> None:
    expected, found = _pair()
    comparison = judge(found, expected, "final")
    assert str(comparison) == "the logits are the same"
    assert comparison.norms == {"up": 0.5, "down": 2.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ["other"]}, "chat template renders another text"),
        ({"rows": [[1, 2, 3]]}, "tokenizer gives other tokens"),
        ({"stop_ids": [4]}, r"ends an answer at the tokens \[4\], the live model at \[3\]"),
        ({"norms": {"up": 0.5}}, "not the live one .layer down: ‖ΔW‖ is None"),
        ({"norms": {"up": 0.5, "down": 2.01}}, "layer down: ‖ΔW‖ is 2.01, the live model's is 2.0"),
        ({"norms": {"up": 0.0, "down": 0.0}}, "the adapter that was saved is not the live one"),
        ({"logits": torch.zeros(1, 7, 50)}, "gives other logits than the live one"),
        ({"logits": torch.zeros(1, 7, 51)}, r"shape \(1, 7, 51\), expected \(1, 7, 50\)"),
        ({"logits": torch.full((1, 7, 50), torch.nan)}, "are no numbers"),
    ],
)
def test_each_difference_is_found_and_named(change: dict[str, Any], message: str) -> None:
    expected, found = _pair()
    with pytest.raises(CheckpointError, match=message) as error:
        judge(replace(found, **change), expected, "final")
    assert str(error.value).startswith("final: ")
    assert "\n" not in str(error.value)


def test_the_tolerance_is_a_share_of_the_largest_logit() -> None:
    expected, found = _pair(scale=1.002)
    judge(found, expected, "final", tolerance=0.0021)
    with pytest.raises(CheckpointError, match="other logits"):
        judge(found, expected, "final", tolerance=0.0019)


def test_an_adapter_of_zero_may_be_saved_on_the_way_and_not_at_the_end() -> None:
    expected, found = _pair()
    zero = {"up": 0.0, "down": 0.0}
    expected, found = replace(expected, norms=zero), replace(found, norms=dict(zero))
    judge(found, expected, "step_1", learnt=False)
    with pytest.raises(CheckpointError, match="nothing was learnt"):
        judge(found, expected, "final")
    judge(replace(found, also_trained=True), expected, "final")


def test_without_a_template_stop_ids_are_the_models_own_affair() -> None:
    expected, found = _pair()
    judge(replace(found, stop_ids=[9]), replace(expected, stop_ids=None), "final")


def test_divergence_and_agreement_are_those_of_torch() -> None:
    torch.manual_seed(1)
    p, q = torch.randn(1, 9, 30), torch.randn(1, 9, 30)
    found = compare(p, q)
    logs = [each.double().log_softmax(-1)[0] for each in (q, p)]
    assert found.divergence == pytest.approx(float(kl_div(*logs, reduction="batchmean", log_target=True)))
    same = sum(int(p[0, at].argmax() == q[0, at].argmax()) for at in range(9))
    assert found.agreement == pytest.approx(same / 9)


def test_scores_are_compared_as_choices_between_two_answers() -> None:
    """Scores 0, ln 3 and ln 9: the better of two neighbours wins with 3/4, the third over the first
    with 9/10. A fourth of the difference between the last two is lost: 9 becomes 3^1.75."""
    live = torch.tensor([0.0, math.log(3), math.log(9)])
    saved = torch.tensor([0.0, math.log(3), 1.75 * math.log(3)])
    found = compare(*(torch.combinations(each, 2)[None] for each in (live, saved)), scored=True)

    def divergence(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    other = [3**power / (1 + 3**power) for power in (1.0, 1.75, 0.75)]
    expected = [divergence(p, q) for p, q in zip((3 / 4, 9 / 10, 3 / 4), other, strict=True)]
    assert found.divergence == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert found.difference == pytest.approx(math.log(3) / 4, rel=1e-6)
    assert found.agreement == 1.0
    assert str(found).startswith("scores differ by 0.27 at most (the largest is 2.2), KL ")
    assert str(found).endswith(" nats, the same answer of two is the better one in 100% of the pairs")
    turned = torch.combinations(saved[[1, 0, 2]], 2)[None]
    pair = [torch.combinations(live, 2)[None]], [turned]
    assert compare(*pair[0], *pair[1]).agreement == pytest.approx(2 / 3)
    assert compare_merged(*pair, Limits(1.0, 0.9), "run", scored=True).agreement < 0.9
    with pytest.raises(CheckpointError, match=r"scores differ by .*; allowed are 0\.1 nats\. Try"):
        compare_merged(*pair, Limits(0.1, 0.9), "run", scored=True)


def test_a_reward_model_is_asked_for_the_scores_of_padded_rows(byte_tokenizer: Any) -> None:
    model = reward_model(bare=True)
    rows = [sample.input_ids.tolist() for sample in pair_samples()[:3]]
    first, second, third = plain_scores(model, pair_samples()[:3]).tolist()
    choices = logits_of(model, rows)
    expected = torch.tensor([[[first, second], [first, third], [second, third]]])
    torch.testing.assert_close(choices, expected, rtol=1e-5, atol=1e-5)
    (probe,), said = read_probes(Path("nowhere"), byte_tokenizer, None, scored=True)
    assert [byte_tokenizer.decode(each) for each in probe] == [f"{PROBE} {each}" for each in ANSWERS]
    assert said == "6 answers of xft's own"


def test_limits_are_those_of_the_coarser_type() -> None:
    assert limits(torch.float32, torch.bfloat16) == LIMITS[torch.bfloat16]
    assert limits(torch.float16, torch.float32) == LIMITS[torch.float16]
    assert limits(torch.bfloat16, torch.bfloat16, bits=4) == LIMITS[torch.bfloat16]
    assert limits(torch.bfloat16, torch.bfloat16, bits=8) == INT8
    ordered = [LIMITS[each] for each in (torch.float32, torch.float16, torch.bfloat16)] + [INT8]
    assert [each.divergence for each in ordered] == sorted(each.divergence for each in ordered)
    assert [each.agreement for each in ordered] == sorted(
        (each.agreement for each in ordered), reverse=True
    )


def test_positions_weigh_the_same_whatever_the_length_of_a_probe() -> None:
    """Nine positions that agree and one that does not: 90 %, not the mean of 100 % and 0 %."""
    same, turned = torch.eye(10)[None, :9] * 9, torch.eye(10)[None, 9:] * 9
    other = turned.roll(1, dims=-1)
    found = compare_merged([same, turned], [same, other], Limits(9.0, 0.9), "run")
    assert found.agreement == pytest.approx(0.9)
    assert found.divergence == pytest.approx(compare(turned, other).divergence / 10)
    with pytest.raises(CheckpointError, match=r"is not what the adapter on its base is.*not less than 95%"):
        compare_merged([same, turned], [same, other], Limits(9.0, 0.95), "run")
    with pytest.raises(CheckpointError, match=r"allowed are 0\.01 nats"):
        compare_merged([same, turned], [same, other], Limits(0.01, 0.5), "run")


def test_probes_are_the_last_answers_to_the_questions_of_the_run(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    rows = [
        {"step": 0, "question": "Who?", "answer": "early"},
        {"step": 9, "question": "Who?", "answer": "late"},
        {"step": 9, "system": "Be brief.", "question": "What?", "answer": "this"},
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    folder = tmp_path / "checkpoints" / "step_9"
    folder.mkdir(parents=True)
    for source in (tmp_path, folder):
        probes, said = read_probes(source, byte_tokenizer, template)
        texts = [byte_tokenizer.decode(each) for (each,) in probes]
        assert texts[0].endswith("<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nlate")
        assert "system" not in texts[0]
        assert texts[1].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?")
        assert texts[1].endswith("What?<|im_end|>\n<|im_start|>assistant\nthis")
        assert said == "2 sample questions"


def test_without_questions_there_is_one_of_our_own(tmp_path: Path, byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    (probe,), said = read_probes(tmp_path, byte_tokenizer, template)
    assert PROBE in byte_tokenizer.decode(*probe)
    assert "no sample questions" in said
    (raw,), _ = read_probes(tmp_path, byte_tokenizer, None)
    assert byte_tokenizer.decode(*raw) == PROBE


def test_broken_questions_are_said(tmp_path: Path, byte_tokenizer: Any) -> None:
    (tmp_path / "samples.jsonl").write_text('{"step": 1}\n')
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    with pytest.raises(
        CheckpointError, match=r"samples\.jsonl: cannot read the sample questions \(KeyError"
    ):
        read_probes(tmp_path, byte_tokenizer, template)
