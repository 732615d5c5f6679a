"""Full fine-tuning, no adapter; matrix products in bf16 where the hardware has it. The leaf adds: model.update(dtype="float32")."""

adapter = None
strategy = dict(type="single_device", mixed_precision="auto")
