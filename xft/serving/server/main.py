"""Open a model, and serve it until somebody stops it."""

import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from xft.errors import ConfigError, ModelError
from xft.models import TextGenerator
from xft.serving.server.app import make_app
from xft.serving.server.batcher import Batcher
from xft.serving.server.service import Limits, Service
from xft.serving.session import Session, open_session
from xft.utils import console

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
KEY = "XFT_API_KEY"


@dataclass(frozen=True)
class ServeOptions:
    """What the command line says of a server.

    Attributes:
        path: of what is served.
        adapter: put on it.
        load_in_bits: bits per weight of the quantized base model, 4 or 8; ``None`` for the precision of training.
        name: of the model, for clients; by default that of the folder.
        host: address to listen at.
        port: 0 takes one that is free.
        max_batch_size: the most answers at once.
        max_queue_size: the most that wait.
        max_new_tokens: the most tokens of an answer, and how many it gets where a request does not say.
        temperature: where a request does not say.
        trust_remote_code: run Python code that lies beside the weights.
    """

    path: str
    adapter: str | None = None
    load_in_bits: int | None = None
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    max_batch_size: int = 8
    max_queue_size: int = 64
    max_new_tokens: int = 1024
    temperature: float = 0.0
    trust_remote_code: bool = False


def serve(options: ServeOptions) -> None:
    """Serve a model until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the address cannot be listened at.
        ModelError: there is nothing to open, or it has no chat template.
    """
    import uvicorn

    listener = listen(options.host, options.port)
    session = open_session(
        options.path,
        adapter=options.adapter,
        bits=options.load_in_bits,
        trust_remote_code=options.trust_remote_code,
    )
    models = models_of(session, options.name or name_of(options.path))
    batcher = Batcher(options.max_batch_size, options.max_queue_size)
    context = context_of(session.generator)
    limits = Limits(context, min(options.max_new_tokens, context), options.max_batch_size)
    service = Service(models, batcher, limits, options.temperature)
    local = is_loopback(options.host)
    key = os.environ.get(KEY) or None
    app = make_app(service, key, LOOPBACK if local else None)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    address = f"http://{options.host}:{listener.getsockname()[1]}"
    console.info(
        f"serving {', '.join(models)} at {address}/v1 (a page to chat: {address}/); Ctrl-C stops it"
    )
    if not local and key is None:
        console.info(f"warning: whoever reaches {options.host} can use it; set {KEY} to ask for a key")
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        console.info("stopped")
    finally:
        batcher.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that two servers cannot take each other's port.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host, --port: cannot listen at {host}:{port} ({error}); --port 0 takes a free one"
        ) from error
    return listener


def models_of(session: Session, name: str) -> dict[str, TextGenerator]:
    """Who is served, by name: what was trained, and where it has an adapter, the model below it."""
    models = {name: session.generator}
    try:
        models[f"{name}:base"] = session.without_adapter().generator
    except ModelError:
        return models  # a whole model, which has nothing below it
    return models


def name_of(path: str) -> str:
    """The name of a model for clients: of the run's folder, whichever folder in it was opened."""
    parts = [
        each for each in Path(path).parts if each not in ("final", "checkpoints", "last", "best", ".", "/")
    ]
    if not parts or parts[-1] == "..":
        return Path(path).resolve().name
    return parts[-1]


def context_of(generator: TextGenerator) -> int:
    """How many tokens the model can look at."""
    config: Any = generator.model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(text, "max_position_embeddings", None) or 4096)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
