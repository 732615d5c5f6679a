"""Measurements of a model class on a tiny model, before the model is loaded."""
