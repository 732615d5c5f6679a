"""Your own rows of prompt, chosen and rejected. The leaf says where: data.update(path=...)."""

data = dict(
    type="preference",
    format="auto",
    max_length=1024,
    on_overlong="drop",
    packing="auto",
    val_split="auto",
)
