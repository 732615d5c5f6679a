"""Families of Mistral, Hugging Face, Google, Cohere and Microsoft.

Sources: ``chat_template`` in the ``tokenizer_config.json`` of Mistral 7B Instruct 0.2, Mixtral 8x7B
Instruct 0.1, Zephyr 7B beta, Gemma 7B it, Gemma 3 4B it, Command R and Phi 3 mini 4k Instruct.
"""

from xft.templates.library.blocks import (
    ALTERNATE,
    NO_SYSTEM,
    ROUNDS,
    TEXT_ONLY,
    Entry,
    by_role,
    each,
    opens,
)

# The system text stands before the first question, between the same marks.
MISTRAL = (
    ROUNDS
    + "{{ bos_token }}"
    + each(
        "turns",
        ALTERNATE,
        by_role(
            user="{{ ' [INST] ' }}"
            "{% if loop.first and has_system %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
            "{{ message['content'] + ' [/INST]' }}",
            assistant="{{ ' ' + message['content'] + eos_token }}",
        ),
    )
)

ZEPHYR = (
    TEXT_ONLY
    + each("messages", "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}")
    + opens("<|assistant|>\n")
)

_GEMMA_ROLE = "'<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n'"
GEMMA = (
    TEXT_ONLY
    + each("messages", NO_SYSTEM)
    + "{{ bos_token }}"
    + each(
        "messages",
        ALTERNATE,
        "{{ " + _GEMMA_ROLE + " + message['content'] | trim + '<end_of_turn>\n' }}",
    )
    + opens("<start_of_turn>model\n")
)
GEMMA3 = (
    ROUNDS
    + "{{ bos_token }}"
    + each(
        "turns",
        ALTERNATE,
        "{{ " + _GEMMA_ROLE + " }}",
        "{% if loop.first and has_system %}{{ messages[0]['content'] + '\n\n' }}{% endif %}",
        "{{ message['content'] | trim + '<end_of_turn>\n' }}",
    )
    + opens("<start_of_turn>model\n")
)

_COHERE_TURN = "<|START_OF_TURN_TOKEN|>"
_COHERE_END = "<|END_OF_TURN_TOKEN|>"
COHERE = (
    ROUNDS
    + "{{ bos_token }}"
    + "{% if has_system %}"
    + "{{ '"
    + _COHERE_TURN
    + "<|SYSTEM_TOKEN|>' + messages[0]['content'] + '"
    + _COHERE_END
    + "' }}"
    + "{% endif %}"
    + each(
        "turns",
        ALTERNATE,
        by_role(
            user="{{ '" + _COHERE_TURN + "<|USER_TOKEN|>' }}",
            assistant="{{ '" + _COHERE_TURN + "<|CHATBOT_TOKEN|>' }}",
        ),
        "{{ message['content'] | trim + '" + _COHERE_END + "' }}",
    )
    + opens(_COHERE_TURN + "<|CHATBOT_TOKEN|>")
)

# The official template ends every text that asks for no answer with EOS. Here only a text that
# ends with an answer does, so that a question is always the beginning of its answered form.
PHI3 = (
    TEXT_ONLY
    + each("messages", "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}")
    + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% elif messages[-1]['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
)

TEMPLATES = {
    "mistral": Entry(MISTRAL, "Mistral 7B Instruct 0.1 and 0.2: [INST] ... [/INST] ... </s>, rounds only."),
    "mixtral": Entry(MISTRAL, "Mixtral 8x7B Instruct: as Mistral."),
    "zephyr": Entry(ZEPHYR, "Zephyr: each turn opened by <|role|> and closed by the EOS token."),
    "gemma": Entry(GEMMA, "Gemma 1 and 2: <start_of_turn> and <end_of_turn>, rounds only, no system turn."),
    "gemma3": Entry(GEMMA3, "Gemma 3: as Gemma, the system text before the first question."),
    "cohere_chat": Entry(
        COHERE, "Command R: <|START_OF_TURN_TOKEN|> ... <|END_OF_TURN_TOKEN|>, rounds only."
    ),
    "phi3_chat": Entry(PHI3, "Phi 3 mini and medium: each turn opened by <|role|> and closed by <|end|>."),
}
