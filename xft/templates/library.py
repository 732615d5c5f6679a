"""Chat templates for models whose tokenizer brings none, by the names XTuner's users know.

Each is Jinja source, written to give the text that the model's authors document; where a
tokenizer with the official template is at hand, a test compares the two.
"""

from xft.registry import register
from xft.templates.base import ChatTemplate

_CHATML_TURNS = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _default_system(text: str) -> str:
    return (
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\n" + text + "<|im_end|>\n' }}"
        "{% endif %}"
    )


SOURCES: dict[str, str] = {
    "chatml": _CHATML_TURNS,
    "qwen_chat": _default_system("You are a helpful assistant.") + _CHATML_TURNS,
    "internlm2_chat": "{{ bos_token }}" + _CHATML_TURNS,
    "llama3_chat": (
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
        "+ message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
}
DESCRIPTIONS = {
    "chatml": "ChatML: each turn between <|im_start|> and <|im_end|>.",
    "qwen_chat": "Qwen 1.5 and 2: ChatML that always has a system turn.",
    "internlm2_chat": "InternLM 2, 2.5 and 3: ChatML behind one <s>.",
    "llama3_chat": "Llama 3: each turn closed by <|eot_id|>.",
    "zephyr": "Zephyr: each turn opened by <|role|> and closed by the EOS token.",
}


@register("template", "auto")
class TokenizersOwn(ChatTemplate):
    """The template that the tokenizer brings."""

    def __init__(self) -> None:
        super().__init__(None)


@register("template", "jinja")
class Jinja(ChatTemplate):
    """A Jinja source of your own, under ``source``."""

    def __init__(self, source: str) -> None:
        super().__init__(source)


def _register(name: str, source: str) -> None:
    class Named(ChatTemplate):
        def __init__(self) -> None:
            super().__init__(source)

    Named.__doc__ = DESCRIPTIONS[name]
    register("template", name)(Named)


for _name, _source in SOURCES.items():
    _register(_name, _source)
