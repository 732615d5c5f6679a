"""Questions about a thousand emoji, and about a hundred others that look like none of them."""

data = dict(
    type="instruction",
    path="xft://emoji_train.jsonl",
    format="openai",
    system="Answer in one short sentence.",
    max_length=256,
    val_split="xft://emoji_val.jsonl",
)
eval_prompts = "xft://emoji_questions.jsonl"
