"""Checkpoints: write, verify, resume and prune them."""
