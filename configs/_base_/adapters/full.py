"""All weights, in fp32; the strategy takes products in bf16. Use: ``model.update(_adapter)``."""

_adapter = dict(adapter=None, quantization=None, dtype="float32")
strategy = dict(type="single", autocast="bfloat16")
