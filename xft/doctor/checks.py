"""Result of one check."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        name: of the checked item.
        level: ``ok``; ``warning`` if a run may fail; ``broken`` if no run can start.
        text: state of the item.
        fix: command or sentence that fixes it; empty if there is nothing to fix.
    """

    name: str
    level: Level
    text: str
    fix: str = ""
