"""Qwen2.5-VL-7B-Instruct. A larger image is reduced to 1,280 tokens of 28 x 28 pixels."""

model = dict(
    type="vision_language",
    path="Qwen/Qwen2.5-VL-7B-Instruct",
    gradient_checkpointing=True,
    max_pixels=1280 * 28 * 28,
)
template = "auto"
