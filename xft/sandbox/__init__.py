"""Render untrusted Jinja templates with time and memory limits.

Imports no other subpackage, so that worker processes start fast.
"""
