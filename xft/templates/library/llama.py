"""Meta's families, and the ones made from Llama that answer in FastChat's or Alpaca's words.

Sources: ``chat_template`` in the ``tokenizer_config.json`` of Llama 2, Code Llama, Llama 3 and
Llama 3.1; FastChat's ``vicuna_v1.1``; the model cards of Vicuna, WizardLM and WizardCoder.
"""

from xft.templates.library.blocks import (
    ALTERNATE,
    ROUNDS,
    SPLIT,
    TEXT_ONLY,
    Entry,
    by_role,
    each,
    opens,
    refuse,
)

# Llama 2 has no system turn: the text stands inside the first question. Each round begins with BOS.
LLAMA2 = ROUNDS + each(
    "turns",
    ALTERNATE,
    "{% set content = message['content'] %}"
    "{% if loop.first and has_system %}"
    "{% set content = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' + content %}"
    "{% endif %}",
    by_role(
        user="{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}",
        assistant="{{ ' ' + content | trim + ' ' + eos_token }}",
    ),
)

_LLAMA3_HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
_LLAMA3_TURN = (
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}"
)
LLAMA3 = TEXT_ONLY + "{{ bos_token }}" + each("messages", _LLAMA3_TURN) + opens(_LLAMA3_HEADER)

# Llama 3.1 always has a system turn, with two dates; tools stand before the first question.
_LLAMA3_1_SYSTEM = (
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{% if tools %}{{ 'Environment: ipython\n' }}{% endif %}"
    "{{ 'Cutting Knowledge Date: December 2023\nToday Date: ' "
    "+ (date_string if date_string is defined else '26 Jul 2024') + '\n\n' }}"
    "{% if has_system %}{{ messages[0]['content'] | trim }}{% endif %}"
    "{{ '<|eot_id|>' }}"
)
_LLAMA3_1_TOOLS = (
    refuse(
        "message['role'] != 'user'", "Llama 3.1 shows tools in the first turn, which must be of the user"
    )
    + "{{ '<|start_header_id|>user<|end_header_id|>\n\n"
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": '
    "dictionary of argument name and its value}.Do not use variables.\n\n' }}"
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\n\n' }}{% endfor %}"
    "{{ message['content'] | trim + '<|eot_id|>' }}"
)
# Text beside a call is left out by the official template; the encoder refuses such a turn.
_LLAMA3_1_CALL = (
    refuse("message.tool_calls | length != 1", "Llama 3.1 calls one tool a turn: split the turn")
    + "{{ '"
    + _LLAMA3_HEADER
    + "' }}"
    """{{ '{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' }}"""
    "{{ message.tool_calls[0].function.arguments | tojson }}{{ '}<|eot_id|>' }}"
)
# The official template puts a result through tojson: a text stands there in quotes.
_LLAMA3_1_RESULT = (
    "{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' }}"
    "{{ message['content'] | tojson }}{{ '<|eot_id|>' }}"
)
LLAMA3_1 = (
    SPLIT
    + _LLAMA3_1_SYSTEM
    + each(
        "turns",
        "{% if tools and loop.first %}"
        + _LLAMA3_1_TOOLS
        + "{% elif message.tool_calls %}"
        + _LLAMA3_1_CALL,
        "{% elif message['role'] == 'tool' %}"
        + _LLAMA3_1_RESULT
        + "{% else %}"
        + _LLAMA3_TURN
        + "{% endif %}",
    )
    + opens(_LLAMA3_HEADER)
)

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user\\'s questions."
)
VICUNA = (
    ROUNDS
    + "{{ bos_token }}"
    + "{{ (messages[0]['content'] if has_system else '"
    + _VICUNA_SYSTEM
    + "') + ' ' }}"
    + each(
        "turns",
        ALTERNATE,
        by_role(
            user="{{ 'USER: ' + message['content'] + ' ' }}",
            assistant="{{ 'ASSISTANT: ' + message['content'] + eos_token }}",
        ),
    )
    + opens("ASSISTANT:")
)

# The card documents one round. Further rounds repeat its block behind an empty line.
_ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
WIZARDCODER = (
    ROUNDS
    + "{{ messages[0]['content'] if has_system else '"
    + _ALPACA_SYSTEM
    + "' }}"
    + each(
        "turns",
        ALTERNATE,
        by_role(
            user="{{ '\n\n### Instruction:\n' + message['content'] + '\n\n' }}",
            assistant="{{ '### Response:' + message['content'] + eos_token }}",
        ),
    )
    + opens("### Response:")
)

TEMPLATES = {
    "llama2_chat": Entry(
        LLAMA2, "Llama 2: rounds of <s>[INST] ... [/INST] ... </s>, the system text in the first."
    ),
    "code_llama_chat": Entry(LLAMA2, "Code Llama Instruct, 7B to 34B: as Llama 2."),
    "llama3_chat": Entry(LLAMA3, "Llama 3: each turn closed by <|eot_id|>."),
    "llama3_1_chat": Entry(
        LLAMA3_1, "Llama 3.1 and 3.3: as Llama 3, with dates in the system turn, and tools."
    ),
    "vicuna": Entry(
        VICUNA, "Vicuna 1.1 and 1.5: USER: ... ASSISTANT: ... </s>, with a default system text."
    ),
    "wizardlm": Entry(VICUNA, "WizardLM 13B 1.1 and later, and 70B: as Vicuna."),
    "wizardcoder": Entry(WIZARDCODER, "WizardCoder: ### Instruction and ### Response, as Alpaca."),
}
