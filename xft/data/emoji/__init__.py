"""Rows about emoji for the vision demo (configs/smollm2_vision.py), from two small packages."""
