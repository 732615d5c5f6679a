"""Your own rows of instruction, input and output: data.path='my_rows.jsonl'."""

data = dict(
    type="instruction",
    path="my_rows.jsonl",
    format="alpaca",
    max_length=2048,
    over_length="drop",
    packing=True,
    val=0.05,
)
