"""Render untrusted Jinja templates with limits of time and memory. Imports no other room: workers start fast."""
