"""Encoded samples on disk: the store, and the cache of stores."""
