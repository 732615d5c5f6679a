"""Write, verify, load and prune checkpoints."""
