"""Your own conversations with images. The leaf says where: data.update(path=...)."""

data = dict(
    type="instruction",
    format="auto",
    max_length=4096,
    on_overlong="drop",
    packing="auto",
    val_split="auto",
)
