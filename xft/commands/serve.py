"""``xft serve``: an OpenAI-compatible server."""

import argparse
from importlib.util import find_spec

from xft.commands.shared import Command, add_trust, importing
from xft.errors import ConfigError


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a model")
    parser.add_argument("--adapter", metavar="PATH", help="an adapter to put on the model")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="by default this machine alone"
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes one that is free")
    parser.add_argument("--name", metavar="NAME", help="of the model, for clients (default: of the folder)")
    parser.add_argument(
        "--max-batch-size", type=int, default=8, metavar="N", help="the most answers at once"
    )
    parser.add_argument("--max-queue-size", type=int, default=64, metavar="N", help="the most that wait")
    parser.add_argument(
        "--max-new-tokens", type=int, default=1024, metavar="N", help="the most tokens of an answer"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="where a request does not say"
    )
    parser.add_argument("--load-in-bits", type=int, choices=(4, 8), help="hold the base in so many bits")
    add_trust(parser)


def _serve(arguments: argparse.Namespace) -> None:
    if min(arguments.max_batch_size, arguments.max_queue_size, arguments.max_new_tokens) < 1:
        raise ConfigError("--max-batch-size, --max-queue-size and --max-new-tokens must be at least 1")
    if not 0 <= arguments.temperature <= 10:
        raise ConfigError(f"--temperature: got {arguments.temperature}, expected 0 to 10")
    missing = [each for each in ("fastapi", "uvicorn") if find_spec(each) is None]
    if missing:
        raise ConfigError(
            f"serve: {' and '.join(missing)} is not installed: pip install -r requirements/serve.txt "
            "(or 'xft-tuner[serve]')"
        )
    with importing():
        from xft.serving.server.main import ServeOptions, serve

    known = {each: getattr(arguments, each) for each in ServeOptions.__dataclass_fields__}
    serve(ServeOptions(**known))


SERVE = Command(
    "serve what was trained, as OpenAI's API and as a page",
    _add_serve,
    _serve,
    examples=(
        "xft serve runs/a",
        "xft serve runs/a --port 8080 --max-batch-size 1",
    ),
    note="The environment variable XFT_API_KEY, where it is set, is the key that\nclients must send.",
)
