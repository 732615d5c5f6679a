"""The version of xft."""

__version__ = "0.1.0"
