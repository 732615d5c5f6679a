"""Ten everyday questions with a system message that asks for bullets, scored by the shape of the answer."""

_bullets = dict(
    system="Answer with three short bullet points.",
    reference="at least 3 bullets, at most 40 words",
    scorer="structured",
)

eval_prompts = [
    dict(question="How do I start learning chess as an adult?", **_bullets),
    dict(question="What do I need for a first night in a tent?", **_bullets),
    dict(question="How can I take sharper photographs of birds?", **_bullets),
    dict(question="How do I keep a guitar in good condition?", **_bullets),
    dict(question="How can my family throw away less plastic?", **_bullets),
    dict(question="How do I look for planets in the night sky?", **_bullets),
    dict(question="What should I ask before I adopt a cat?", **_bullets),
    dict(question="How do I begin with knitting?", **_bullets),
    dict(question="How can I feel safer when I swim in the sea?", **_bullets),
    dict(question="How do I organise a birthday party for ten children?", **_bullets),
]
