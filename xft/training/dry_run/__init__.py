"""Dry run (``xft train --dry-run``): whether a run fits into memory and disk, and how long it takes."""
