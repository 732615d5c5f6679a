"""Helpers without dependencies on other subpackages: console, system, memory and paths."""
