"""Your own rows of instruction, input and output. The leaf says where: data.update(path=...)."""

data = dict(
    type="instruction",
    format="alpaca",
    max_length=2048,
    on_overlong="drop",
    packing="auto",
    val_split="auto",
)
