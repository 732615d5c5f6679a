"""Families that write ChatML: each turn between ``<|im_start|>role`` and ``<|im_end|>``.

Sources: ``chat_template`` in the ``tokenizer_config.json`` of Qwen 1.5, 2, 2.5 and 3, InternLM 2
and MiniCPM 3; for the tools of InternLM 2, ``chat/chat_format.md`` of InternLM's repository, and
the compact JSON that its own agent (Lagent) writes there.
"""

from xft.templates.library.blocks import TEXT_ONLY, Entry, by_role, each, opens, refuse

_HEADER = opens("<|im_start|>assistant\n")
_TURN = "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
CHATML = TEXT_ONLY + each("messages", _TURN) + _HEADER


def _default_system(text: str) -> str:
    return (
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\n" + text + "<|im_end|>\n' }}"
        "{% endif %}"
    )


# Qwen 2.5 and 3: descriptions of tools behind the text of the system turn, calls as JSON between
# tags, results in a turn of the user that neighbouring results share.
_QWEN_TOOLS = (
    "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
    "{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call><|im_end|>\n' }}"
)
_QWEN_CALL = (
    """{{ '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}"""
    "{{ call.function.arguments | tojson }}"
    "{{ '}\n</tool_call>' }}"
)
_QWEN_RESULT = (
    "{% if loop.first or loop.previtem['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + message['content'] + '\n</tool_response>' }}"
    "{% if loop.last or loop.nextitem['role'] != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
)
_QWEN2_5_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_QWEN2_5_CALLS = (
    "{{ '<|im_start|>assistant' }}"
    "{% if message['content'] %}{{ '\n' + message['content'] }}{% endif %}"
    "{% for call in message.tool_calls %}{{ '\n' }}" + _QWEN_CALL + "{% endfor %}"
    "{{ '<|im_end|>\n' }}"
)
QWEN2_5 = (
    "{% if tools %}"
    "{{ '<|im_start|>system\n' }}"
    "{{ messages[0]['content'] if messages[0]['role'] == 'system' else '" + _QWEN2_5_SYSTEM + "' }}"
    "{{ '\n\n' }}"
    + _QWEN_TOOLS
    + "{% endif %}"
    + _default_system(_QWEN2_5_SYSTEM).replace("{% if ", "{% if not tools and ")
    + each(
        "messages",
        by_role(
            system="{% if not (tools and loop.first) %}" + _TURN + "{% endif %}",
            user=_TURN,
            assistant="{% if message.tool_calls %}" + _QWEN2_5_CALLS + "{% else %}" + _TURN + "{% endif %}",
            tool=_QWEN_RESULT,
        ),
    )
    + _HEADER
)

# Qwen 3 shows what was thought behind the last question only, and there it puts an empty thought
# before an answer without one. A question is a turn of the user that is not the result of a tool.
_QWEN3_LAST_QUESTION = (
    "{% set last = namespace(question=messages | length - 1, found=false) %}"
    "{% for message in messages[::-1] %}"
    "{% if not last.found and message['role'] == 'user' "
    "and not (message['content'].startswith('<tool_response>') "
    "and message['content'].endswith('</tool_response>')) %}"
    "{% set last.found = true %}{% set last.question = messages | length - 1 - loop.index0 %}"
    "{% endif %}{% endfor %}"
)
_QWEN3_THOUGHT = (
    "{% set content = message['content'] %}{% set thought = '' %}"
    "{% if message.reasoning_content is defined and message.reasoning_content is not none %}"
    "{% set thought = message.reasoning_content %}"
    "{% elif '</think>' in content %}"
    r"{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    r"{% set content = content.split('</think>')[-1].lstrip('\n') %}"
    "{% endif %}"
)
_QWEN3_ANSWER = (
    _QWEN3_THOUGHT + "{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > last.question and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{% else %}{{ content }}{% endif %}"
    "{% for call in message.tool_calls %}"
    "{% if content or not loop.first %}{{ '\n' }}{% endif %}" + _QWEN_CALL + "{% endfor %}"
    "{{ '<|im_end|>\n' }}"
)
QWEN3 = (
    "{% if tools %}"
    "{{ '<|im_start|>system\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
    + _QWEN_TOOLS
    + "{% endif %}"
    + _QWEN3_LAST_QUESTION
    + each(
        "messages",
        by_role(
            system="{% if not (tools and loop.first) %}" + _TURN + "{% endif %}",
            user=_TURN,
            assistant=_QWEN3_ANSWER,
            tool=_QWEN_RESULT,
        ),
    )
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)

# InternLM 2: the tools are a system turn of their own behind the first, a call ends the answer.
_INTERNLM2_TOOLS = (
    "{{ '<|im_start|>system name=<|plugin|>\n' }}"
    "{{ tools | map(attribute='function') | list | tojson }}"
    "{{ '<|im_end|>\n' }}"
)
_INTERNLM2_CALL = (
    refuse("message.tool_calls | length != 1", "InternLM 2 calls one tool a turn: split the turn")
    + "{% set call = message.tool_calls[0].function %}"
    "{{ '<|im_start|>assistant\n' + message['content'] + '<|action_start|><|plugin|>\n' }}"
    """{{ '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}"""
    "{{ '}<|action_end|><|im_end|>\n' }}"
)
_INTERNLM2_TOOLS_HERE = "{% if tools and loop.first %}" + _INTERNLM2_TOOLS + "{% endif %}"
INTERNLM2 = (
    "{{ bos_token }}"
    + each(
        "messages",
        "{% if message['role'] != 'system' %}" + _INTERNLM2_TOOLS_HERE + "{% endif %}",
        by_role(
            system=_TURN + _INTERNLM2_TOOLS_HERE,
            user=_TURN,
            assistant="{% if message.tool_calls %}"
            + _INTERNLM2_CALL
            + "{% else %}"
            + _TURN
            + "{% endif %}",
            tool="{{ '<|im_start|>environment name=<|plugin|>\n' + message['content'] + '<|im_end|>\n' }}",
        ),
    )
    + _HEADER
)

# Qwen 1.5 and 2 have no tools in their template.
QWEN = TEXT_ONLY + _default_system("You are a helpful assistant.") + each("messages", _TURN) + _HEADER

TEMPLATES = {
    "chatml": Entry(CHATML, "ChatML: each turn between <|im_start|> and <|im_end|>."),
    "qwen_chat": Entry(QWEN, "Qwen 1, 1.5 and 2: ChatML that always has a system turn."),
    "qwen2_5_chat": Entry(QWEN2_5, "Qwen 2.5: ChatML with a default system turn, and tools."),
    "qwen3": Entry(
        QWEN3, "Qwen 3: ChatML with tools and reasoning; reasoning of earlier rounds is left out."
    ),
    "internlm2_chat": Entry(INTERNLM2, "InternLM 2, 2.5 and 3: ChatML behind one <s>, with tools."),
    "minicpm3": Entry(
        CHATML, "MiniCPM 3: ChatML (tools, which the model has as Python code, are refused)."
    ),
}
