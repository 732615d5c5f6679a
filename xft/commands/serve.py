"""``xft serve``: an OpenAI-compatible server."""

import argparse
from importlib.util import find_spec

from xft.commands.shared import Command, add_load_in_bits, add_trust, importing, require_at_least
from xft.errors import ConfigError


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a run folder, a checkpoint, an adapter or a model")
    parser.add_argument("--adapter", metavar="PATH", help="adapter to load on the model")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to listen on; 0 picks a free port (default: 8000)",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="model name for clients (default: name of the folder)"
    )
    parser.add_argument(
        "--max-batch-size",
        type=int,
        default=8,
        metavar="N",
        help="maximum number of sequences decoded together (default: 8)",
    )
    parser.add_argument(
        "--max-queue-size",
        type=int,
        default=64,
        metavar="N",
        help="maximum number of queued requests, 429 beyond (default: 64)",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=1024,
        metavar="N",
        help="maximum number of tokens of an answer (default: 1024)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="temperature of requests without one (default: 0)",
    )
    parser.add_argument(
        "--system",
        metavar="TEXT",
        help="system message of requests without one (default: data.system of the training; '' for none)",
    )
    add_load_in_bits(parser)
    add_trust(parser)


def _serve(arguments: argparse.Namespace) -> None:
    require_at_least(arguments, 1, "--max-batch-size", "--max-queue-size", "--max-new-tokens")
    if not 0 <= arguments.temperature <= 10:
        raise ConfigError(key="--temperature", got=arguments.temperature, expected="0 to 10")
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"serve: {' and '.join(missing)} is not installed: pip install -r requirements/serve.txt "
            "(or 'xft-tuner[serve]')"
        )
    with importing():
        from xft.serving.server.main import ServeOptions, serve

    options = {name: vars(arguments)[name] for name in ServeOptions.__dataclass_fields__}
    serve(ServeOptions(**options))


SERVE = Command(
    "serve a fine-tuned model: OpenAI-compatible API and chat page",
    _add_serve,
    _serve,
    examples=(
        "xft serve runs/a",
        "xft serve runs/a --port 8080 --max-batch-size 1",
    ),
    note="If the environment variable XFT_API_KEY is set, clients must send it as\ntheir API key.",
)
