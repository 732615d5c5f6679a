"""The model that a reward is learnt with."""

from typing import ClassVar

from xft.models.loading import CausalLM
from xft.models.reward_head import Kind
from xft.registry import register


@register("model", "reward_model")
class RewardModel(CausalLM):
    """A decoder with a scalar head, which gives a conversation one score.

    Loaded and saved as ``AutoModelForSequenceClassification`` with one label. Out of a language model
    it has a new head, whose weights are drawn from the seed; out of a reward model it has that one's.
    The arguments are those of :class:`CausalLM`. With an adapter the head is trained whole beside it,
    in fp32.
    """

    kind: ClassVar[Kind] = "reward_model"
