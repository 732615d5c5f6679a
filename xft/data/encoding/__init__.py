"""Encoding: a row becomes samples of token ids and labels."""
