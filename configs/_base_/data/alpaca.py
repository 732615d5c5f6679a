"""Your own rows: columns and turns decide how they are read. The leaf says where: data.update(path=...)."""

data = dict(
    type="instruction",
    format="auto",
    max_length=2048,
    on_overlong="drop",
    packing="auto",
    val_split="auto",
)
