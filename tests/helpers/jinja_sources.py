"""Small chat templates with the peculiarities of official ones, written for the tests."""

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

OPENED_THOUGHT = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n"
    "{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}<call>\n<{{ c.function.name }}>"
    "{% for key, value in c.function.arguments | items %}<{{ key }}>{{ value }}{% endfor %}</call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    "{% endif %}{{ '' if tools else '' }}"
)
"""Like Qwen 3.5: the generation prompt opens a thought, which earlier answers lack."""

CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.thinking and (loop.last or m.tool_calls) %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}{% if m.tool_calls %}"
    "{% set f = m.tool_calls[0].function %}<|start|>assistant to=functions.{{ f.name }}<|channel|>commentary<|message|>"
    "{{ f.arguments | tojson }}<|call|>{% else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endif %}{% elif m.role == 'tool' %}"
    "<|start|>functions to=assistant<|channel|>commentary<|message|>{{ m.content | tojson }}<|end|>{% else %}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}{{ '' if tools else '' }}"
)
"""Like gpt-oss: channels, another end of the last answer, one call in a turn."""

OPEN_TURN = (
    "{% for m in messages %}{% if m.role == 'tool' %}<|result>{{ m.content }}<result|>{% else %}"
    "{% if not (m.role == 'assistant' and loop.index0 > 0 and messages[loop.index0 - 1].role == 'tool') %}<|turn>"
    "{{ m.role }}\n{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}<|call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}<call|>{% endfor %}{% if not m.tool_calls %}<turn|>\n{% elif loop.last %}<|result>"
    "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1].role != 'tool' %}<|turn>assistant\n"
    "{% endif %}{{ '' if tools else '' }}"
)
"""Like Gemma 4: a call leaves the turn open, and the answer follows the result without a header."""

ENDS_WITH_EOS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
"""Like Phi 3: EOS ends a text without generation prompt."""

TWO_CLOSERS = (
    "<|SOT|><|SYSTEM|>Preamble{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}<|EOT|>"
    "{% for m in messages if m.role != 'system' %}<|SOT|>{% if m.role == 'user' %}<|USER|>{{ m.content }}{% else %}"
    "<|BOT|><|START|>{{ m.content }}<|STOP|>{% endif %}<|EOT|>{% endfor %}"
    "{% if add_generation_prompt %}<|SOT|><|BOT|>{% endif %}"
)
"""Like Command R7B: two tokens close an answer, and a system message is always written."""

CLOSES_LAST = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token if loop.last and m.role == 'assistant' }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Like Olmo: only the last answer is closed."""

STRIPS_THOUGHT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|Assistant|>{{ m.content.split('</think>')[-1] }}<|eos|>"
    "{% else %}<|User|>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
"""Like DeepSeek R1: the generation prompt opens a thought, which answers in training lack."""

NEXT_HEADER = (
    "{% for m in messages %}{% if m.role == 'tool' %}<|observation|>\n{{ m.content }}{% else %}<|{{ m.role }}|>\n"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}{{ c.function.arguments | tojson }}</call>"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{{ '' if tools else '' }}"
)
"""Like GLM 4: the model stops at the header of the next message, so nothing ends the last answer."""

OPEN_LAST = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{{ '<|im_end|>\n' if not loop.last or add_generation_prompt }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like Qwen 1.5: the end-of-turn token is missing after the last answer only."""

ALWAYS_PROMPTS = (
    "<|SOT|><|SYSTEM|>Preamble<|EOT|>{% for m in messages %}<|SOT|>{% if m.role == 'user' %}<|USER|>{{ m.content }}"
    "{% elif m.role == 'tool' %}<|SYSTEM|>{{ m.content }}{% else %}<|BOT|>{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}<|STOP|>{% else %}<|START|>{{ m.content }}<|STOP|>{% endfor %}"
    "{% endif %}<|EOT|>{% endfor %}<|SOT|><|BOT|>{{ '' if tools else '' }}"
)
"""Like the template of Command R7B for tools: also writes the generation prompt when it is not asked for."""

TAGGED = (
    "{% for m in messages %}<|open|>message {{ m.role }}<|sep|>{% if m.role == 'assistant' %}<|open|>think<|sep|>"
    "{{ m.reasoning_content or '' }}<|close|>think<|sep|><|open|>response<|sep|>{{ m.content }}<|close|>response<|sep|>"
    "{% else %}{{ m.content }}{% endif %}<|close|>message<|sep|><|eom|>{% endfor %}"
    "{% if add_generation_prompt %}<|open|>message assistant<|sep|><|open|>think<|sep|>{% endif %}"
)
"""Like Kimi K3: tags of several tokens, of which some also occur within messages."""

CALL_IDS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.id }}"
    "{{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{{ tools | tojson if tools else '' }}"
)
"""Like Kimi K2: the id of a call in place of its name."""

PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}"
    "{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Like Idefics 3: the content is a list of parts."""

LONGER_PROMPT = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\nMy reasoning:\n{% endif %}{{ '' if tools else '' }}"
)
"""Like Apriel: the generation prompt ends with text that answers in training lack."""

SOURCES = {
    name: value
    for name, value in globals().items()
    if name.isupper() and isinstance(value, str) and "{%" in value
}
SPECIALS = (
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|channel|>",
        "<|call|>",
        "<|return|>",
    ),
    *(
        "<|turn>",
        "<turn|>",
        "<|call>",
        "<call|>",
        "<|result>",
        "<result|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
    ),
    *("<|SOT|>", "<|EOT|>", "<|SYSTEM|>", "<|USER|>", "<|BOT|>", "<|START|>", "<|STOP|>"),
    *(
        "<|User|>",
        "<|Assistant|>",
        "<|eos|>",
        "<|observation|>",
        "<|open|>",
        "<|close|>",
        "<|sep|>",
        "<|eom|>",
    ),
)
