"""Vicuna-7B-v1.5 that sees images through CLIP ViT-L/14-336, as LLaVA 1.5.

Another language model: path='Qwen/Qwen2.5-7B-Instruct' or 'internlm/internlm3-8b-instruct', and template='auto'.
"""

model = dict(
    type="llava",
    path="lmsys/vicuna-7b-v1.5",
    vision="openai/clip-vit-large-patch14-336",
    gradient_checkpointing=True,
)
template = "vicuna"
