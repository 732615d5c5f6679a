"""What XTuner wrote, by hand from its ``PROMPT_TEMPLATE`` and the order in which it joins the parts:
BOS, system, question, answer, EOS, and a separator where another round follows."""

from helpers.documented_texts import Text

XTUNER_LLAMA2_SYSTEM = (
    "[INST] <<SYS>>\n You are a helpful, respectful and honest assistant. Always answer as helpfully as "
    "possible, while being safe. Your answers should not include any harmful, unethical, racist, sexist, "
    "toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and "
    "positive in nature.\nBe brief.\n<</SYS>>\n [/INST] "
)
XTUNER_INST = "<s>[INST] Hi [/INST]Hello!</s>\n<s>[INST] Bye [/INST]See you.</s>"
PLAIN_TRAINED = ("Hello!</s>", "See you.</s>")

XTUNER: dict[str, Text] = {
    "default": Text(
        asked="<s><|User|>:Hi\n<|Bot|>:",
        single="<s><|User|>:Hi\n<|Bot|>:Hello!</s>",
        multi="<s><|User|>:Hi\n<|Bot|>:Hello!</s>\n<|User|>:Bye\n<|Bot|>:See you.</s>",
        system="<s><|System|>:Be brief.\n<|User|>:Hi\n<|Bot|>:Hello!</s>",
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
    "llama2_chat_xtuner": Text(
        asked="<s>[INST] Hi [/INST]",
        single="<s>[INST] Hi [/INST]Hello!</s>",
        multi=XTUNER_INST,
        system=f"<s>{XTUNER_LLAMA2_SYSTEM}[INST] Hi [/INST]Hello!</s>",
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
    "mistral_xtuner": Text(
        asked="<s>[INST] Hi [/INST]",
        single="<s>[INST] Hi [/INST]Hello!</s>",
        multi=XTUNER_INST,
        system="<s>[INST] Be brief. [/INST]\n[INST] Hi [/INST]Hello!</s>",
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
    "gemma_xtuner": Text(
        asked="<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        single="<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn></s>",
        multi="<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn></s>\n"
        "<s><start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nSee you.<end_of_turn></s>",
        system="<s><start_of_turn>system\nBe brief.<end_of_turn>\n<start_of_turn>user\nHi<end_of_turn>\n"
        "<start_of_turn>model\nHello!<end_of_turn></s>",
        trained=("Hello!<end_of_turn>", "See you.<end_of_turn>"),
        stop="<end_of_turn>",
    ),
    "zephyr_xtuner": Text(
        asked="<s><|user|>\nHi\n<|assistant|>\n",
        single="<s><|user|>\nHi\n<|assistant|>\nHello!</s>",
        multi="<s><|user|>\nHi\n<|assistant|>\nHello!</s>\n<s><|user|>\nBye\n<|assistant|>\nSee you.</s>",
        system="<s><|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHello!</s>",
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
    "minicpm_xtuner": Text(
        asked="<s><用户> Hi <AI>",
        single="<s><用户> Hi <AI>Hello!</s>",
        multi="<s><用户> Hi <AI>Hello!</s>\n<s><用户> Bye <AI>See you.</s>",
        system=None,
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
    "deepseek_v2_xtuner": Text(
        asked="<s>User: Hi\n\nAssistant: ",
        single="<s>User: Hi\n\nAssistant: Hello!</s>",
        multi="<s>User: Hi\n\nAssistant: Hello!</s>User: Bye\n\nAssistant: See you.</s>",
        system="<s>Be brief.\n\nUser: Hi\n\nAssistant: Hello!</s>",
        trained=PLAIN_TRAINED,
        stop="</s>",
    ),
}
