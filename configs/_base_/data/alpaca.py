"""Your own rows of instruction, input and output. The leaf says where: data.update(path=...)."""

data = dict(
    type="instruction",
    format="alpaca",
    max_length=2048,
    over_length="drop",
    packing=True,
    val=0.05,
)
