"""AdamW, a short warm-up, and half a cosine down to zero."""

training = dict(epochs=3, micro_batch_size=1, gradient_accumulation_steps=16, max_grad_norm=1.0)
optimizer = dict(type="adamw", lr=2e-4, weight_decay=0.0)
lr_scheduler = dict(type="cosine")  # warmup_ratio=0.03, or set warmup_steps
