"""The commands of ``xft``. Each imports its dependencies when it runs."""

from xft.commands.completion import COMPLETION
from xft.commands.configs import CHECK, COPY, LIST, SCHEMA
from xft.commands.data import INSPECT, PREPARE
from xft.commands.docs import DOCS
from xft.commands.doctor import DOCTOR
from xft.commands.evaluate import EVAL
from xft.commands.migrate import IMPORT
from xft.commands.models import CHAT, CONVERT, SCORE
from xft.commands.new import NEW
from xft.commands.runs import COMPARE, REPORT, RUNS
from xft.commands.serve import SERVE
from xft.commands.shared import Command
from xft.commands.sweep import SWEEP
from xft.commands.train import TRAIN

COMMANDS: dict[str, Command] = {
    "train": TRAIN,
    "new": NEW,
    "chat": CHAT,
    "serve": SERVE,
    "eval": EVAL,
    "score": SCORE,
    "convert": CONVERT,
    "sweep": SWEEP,
    "runs": RUNS,
    "report": REPORT,
    "compare": COMPARE,
    "inspect-data": INSPECT,
    "prepare-data": PREPARE,
    "check": CHECK,
    "list": LIST,
    "schema": SCHEMA,
    "copy": COPY,
    "docs": DOCS,
    "import": IMPORT,
    "doctor": DOCTOR,
    "completion": COMPLETION,
}
