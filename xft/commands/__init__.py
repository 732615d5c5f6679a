"""The commands of ``xft``. Each imports its dependencies when it runs."""

from xft.commands.completion import COMPLETION
from xft.commands.configs import CHECK, COPY, LIST, SCHEMA
from xft.commands.data import INSPECT, PREPARE
from xft.commands.doctor import DOCTOR
from xft.commands.evaluate import EVAL
from xft.commands.models import CHAT, CONVERT, SCORE
from xft.commands.runs import COMPARE, REPORT
from xft.commands.serve import SERVE
from xft.commands.shared import Command
from xft.commands.train import TRAIN

COMMANDS: dict[str, Command] = {
    "train": TRAIN,
    "chat": CHAT,
    "serve": SERVE,
    "eval": EVAL,
    "score": SCORE,
    "convert": CONVERT,
    "report": REPORT,
    "compare": COMPARE,
    "inspect-data": INSPECT,
    "prepare-data": PREPARE,
    "check": CHECK,
    "list": LIST,
    "schema": SCHEMA,
    "copy": COPY,
    "doctor": DOCTOR,
    "completion": COMPLETION,
}
