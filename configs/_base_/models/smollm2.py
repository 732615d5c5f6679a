"""SmolLM2-135M-Instruct, from the package registry. With the internet, the unquantised original:
model.path='HuggingFaceTB/SmolLM2-135M-Instruct'."""

model = dict(type="causal_lm", path="xft://smollm2-135m-instruct")
template = "auto"
