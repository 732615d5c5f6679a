"""Helpers without dependencies on other rooms: console, system, memory and paths."""
