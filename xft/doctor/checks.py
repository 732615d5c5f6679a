"""What the doctor says of one thing."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "absent", "warning", "broken"]
BROKEN: Level = "broken"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        part: the heading that it stands under.
        name: of the thing.
        level: ``ok``; ``absent`` is something optional that is not there; a ``warning`` may go well;
            with something ``broken``, no run can.
        text: what was found.
        mend: what to do: a command, or a sentence; empty where nothing is to be done.
    """

    part: str
    name: str
    level: Level
    text: str
    mend: str = ""
