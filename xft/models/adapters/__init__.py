"""Adapters: LoRA, its initialization, and fused LoRA layers."""
