"""Pairs about everyday questions, written by hand: chosen are three short bullets, rejected is a long paragraph."""

data = dict(type="preference", path="xft://pairs.jsonl", format="auto", max_length=256, val_split=0.05)
