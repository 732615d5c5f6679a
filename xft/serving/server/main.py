"""Server process: load a model and serve it until it is stopped."""

import logging
import os
import socket
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from xft.errors import ConfigError, ModelError
from xft.models import TextGenerator
from xft.models.families import context_length
from xft.models.model_options import transformers_config
from xft.serving.server.app import create_app
from xft.serving.server.batcher import Batcher
from xft.serving.server.service import Limits, Service
from xft.serving.session import Session, open_session
from xft.utils import console

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
API_KEY_VARIABLE = "XFT_API_KEY"
"""Environment variable with the key that clients must send."""
MAX_BODY_BYTES_WITH_IMAGES = 32 << 20
"""Maximum size of a request to a model that sees images."""
BACKLOG = 128
"""Number of connections that wait to be accepted."""
DEFAULT_CONTEXT_LENGTH = 4096
"""Context length of a model whose config has none, in tokens."""


@dataclass(frozen=True)
class ServeOptions:
    """Options of the server.

    Attributes:
        path: run folder, checkpoint, adapter or model to serve.
        adapter: adapter to load on the model.
        load_in_bits: bits per weight of the quantized base model, 4 or 8; ``None`` for the precision of training.
        name: model name for clients; by default the name of the folder.
        host: address to listen on.
        port: port to listen on; 0 picks a free port.
        max_batch_size: maximum number of sequences decoded together.
        max_queue_size: maximum number of queued requests.
        max_new_tokens: maximum, and default, number of tokens of an answer.
        temperature: temperature of requests without one.
        system: system message of requests without one; ``None`` for that of the training, empty for none.
        trust_remote_code: run Python code that is stored with the weights.
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
    system: str | None = None
    trust_remote_code: bool = False


def serve(options: ServeOptions) -> None:
    """Serve a model until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: the address is not available.
        ModelError: the model cannot be loaded, or has no chat template.
    """
    import uvicorn

    listener = listen(options.host, options.port)
    session = open_session(
        options.path,
        adapter=options.adapter,
        bits=options.load_in_bits,
        system=options.system,
        trust_remote_code=options.trust_remote_code,
    )
    models = served_models(session, options.name or model_name(options.path))
    batcher = Batcher(options.max_batch_size, options.max_queue_size)
    config = transformers_config(session.generator.model)
    num_positions = context_length(config) or DEFAULT_CONTEXT_LENGTH
    limits = Limits(num_positions, min(options.max_new_tokens, num_positions), options.max_batch_size)
    if session.generator.processor is not None:
        limits = replace(limits, max_body_bytes=MAX_BODY_BYTES_WITH_IMAGES)
    service = Service(models, batcher, limits, options.temperature, session.system or "")
    local = is_loopback(options.host)
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    app = create_app(service, api_key, LOOPBACK_HOSTS if local else None)
    settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    logging.getLogger("uvicorn").handlers = console.LOGGER.handlers
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{listener.getsockname()[1]}"
    lines = [f"serving {', '.join(models)} at {address}/v1 (chat page: {address}/); press Ctrl-C to stop"]
    if session.system:
        lines.append(f"system message of requests without one: {console.shorten(session.system, 200)!r}")
    if not local and api_key is None:
        lines.append(
            f"warning: {options.host} is open to everyone on the network; set {API_KEY_VARIABLE} to require a key"
        )

    class AnnouncedServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            for line in lines:
                console.info(line)

    try:
        AnnouncedServer(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        console.info("stopped")
    finally:
        batcher.close()


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket and listen, before the model is loaded: the port is reserved, and clients that connect wait.

    Raises:
        ConfigError: the address is not available.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(key="--port", got=port, expected="0 to 65535")
    if not host:
        raise ConfigError(key="--host", got=host, expected="an address, such as 127.0.0.1")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # With SO_REUSEADDR, two sockets can bind a port, but only one can listen.
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host, --port: cannot listen on {host}:{port} ({error}); use --port 0 for a free port",
            key="--port",
            got=f"{host}:{port}",
            fix="use --port 0 for a free port",
        ) from error
    return listener


def served_models(session: Session, name: str) -> dict[str, TextGenerator]:
    """Return the served models by name: the fine-tuned model and, for an adapter, its base model."""
    models = {name: session.generator}
    try:
        models[f"{name}:base"] = session.without_adapter().generator
    except ModelError:
        return models  # a full model has no adapter to disable
    return models


def model_name(path: str) -> str:
    """Return the model name for clients: the name of the run folder, even for a path inside it."""
    parts = [
        part for part in Path(path).parts if part not in ("final", "checkpoints", "last", "best", ".", "/")
    ]
    if not parts or parts[-1] == "..":
        return Path(path).resolve().name
    return parts[-1]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
