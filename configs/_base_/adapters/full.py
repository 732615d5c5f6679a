"""Full fine-tuning, no adapter; matrix products in bf16. The leaf adds: model.update(dtype="float32")."""

adapter = None
strategy = dict(type="single_device", mixed_precision="bf16")
