"""Batches: which samples form a batch, and how they are laid out."""
