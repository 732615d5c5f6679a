"""Adaptations to third-party libraries: everything that xft changes in, or hides from, a library."""
