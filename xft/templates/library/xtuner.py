"""What XTuner trained where it differs from the official template, for checkpoints made by it.

Source: ``PROMPT_TEMPLATE`` in ``xtuner/utils/templates.py`` (0.1.23) and how its ``encode_fn``
puts a conversation together: BOS, system, question, answer, EOS, and a separator where another
round follows. A round behind an EOS begins with BOS again.
"""

from xft.templates.library.blocks import ALTERNATE, NO_SYSTEM, ROUNDS, Entry, by_role, each

_CONTENT = "' + message['content'] + '"
_SYSTEM = "' + messages[0]['content'] + '"


def _rounds(
    user: str, system: str = "", end: str = "", separator: str = "\n", repeat_bos: bool = True
) -> str:
    """Rounds as XTuner's encode function lays them out.

    Args:
        user: what a question becomes, up to where the answer begins.
        system: what the text of the system becomes; empty refuses one.
        end: what stands between an answer and EOS.
        separator: what stands between two rounds.
        repeat_bos: whether each round begins with BOS, or the first only.
    """
    before = "{{ bos_token }}" if repeat_bos else "{% if loop.first %}{{ bos_token }}{% endif %}"
    if system:
        before += "{% if loop.first and has_system %}{{ '" + system + "' }}{% endif %}"
    between = "{% if not loop.last %}{{ '" + separator + "' }}{% endif %}" if separator else ""
    return (
        ROUNDS
        + ("" if system else each("messages", NO_SYSTEM))
        + each(
            "turns",
            ALTERNATE,
            by_role(
                user=before + "{{ '" + user + "' }}",
                assistant="{{ message['content'] + '" + end + "' + eos_token }}" + between,
            ),
        )
    )


_LLAMA2_SYSTEM = (
    "[INST] <<SYS>>\n You are a helpful, respectful and honest assistant. Always answer as helpfully "
    "as possible, while being safe. Your answers should not include any harmful, unethical, racist, "
    "sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially "
    f"unbiased and positive in nature.\n{_SYSTEM}\n<</SYS>>\n [/INST] "
)
_INST = f"[INST] {_CONTENT} [/INST]"

# XTuner's fallback for models without a format of their own. BOS stands once, at the start.
DEFAULT = _rounds(f"<|User|>:{_CONTENT}\n<|Bot|>:", system=f"<|System|>:{_SYSTEM}\n", repeat_bos=False)

TEMPLATES = {
    "default": Entry(
        DEFAULT, "For base models: <|System|>:, <|User|>:, <|Bot|>: as plain text, an answer closed by EOS."
    ),
    "llama2_chat_xtuner": Entry(
        _rounds(_INST, system=_LLAMA2_SYSTEM),
        "Llama 2 as XTuner trained it: a system text of its own, in an [INST] of its own.",
    ),
    "mistral_xtuner": Entry(
        _rounds(_INST, system=f"[INST] {_SYSTEM} [/INST]\n"),
        "Mistral as XTuner trained it: the system text in an [INST] of its own.",
    ),
    "gemma_xtuner": Entry(
        _rounds(
            f"<start_of_turn>user\n{_CONTENT}<end_of_turn>\n<start_of_turn>model\n",
            system=f"<start_of_turn>system\n{_SYSTEM}<end_of_turn>\n",
            end="<end_of_turn>",
        ),
        "Gemma as XTuner trained it: with a system turn, EOS behind <end_of_turn>.",
    ),
    "zephyr_xtuner": Entry(
        _rounds(f"<|user|>\n{_CONTENT}\n<|assistant|>\n", system=f"<|system|>\n{_SYSTEM}\n"),
        "Zephyr as XTuner trained it: no EOS behind the system and the user.",
    ),
    "minicpm_xtuner": Entry(
        _rounds(f"<用户> {_CONTENT} <AI>"),
        "MiniCPM as XTuner trained it: spaces around the question, no system turn.",
    ),
    "deepseek_v2_xtuner": Entry(
        _rounds(
            f"User: {_CONTENT}\n\nAssistant: ", system=f"{_SYSTEM}\n\n", separator="", repeat_bos=False
        ),
        "DeepSeek V2 as XTuner trained it: the space behind Assistant: is not learned.",
    ),
}
