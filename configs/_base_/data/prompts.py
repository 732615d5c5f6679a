"""Everyday questions without answers, after a system message that asks for bullets."""

data = dict(
    type="prompt",
    path="xft://pairs.jsonl",
    format=dict(type="prompt", system_text="Answer with three short bullet points."),
    max_length=256,
    val_split=8,
)
