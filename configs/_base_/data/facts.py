"""A hundred rows about xft, written by hand, and ten questions worded differently from all of them."""

data = dict(type="instruction", path="xft://facts.jsonl", format="auto", max_length=256, val_split=0.05)
eval_prompts = "xft://facts_questions.jsonl"
