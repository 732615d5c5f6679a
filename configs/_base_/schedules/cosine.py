"""AdamW, a short warm-up, and half a cosine down to zero."""

training = dict(epochs=3, batch_size=1, accumulation=16, clip=1.0)
optimizer = dict(type="adamw", lr=2e-4, weight_decay=0.0)
schedule = dict(type="cosine", warmup=0.03)
