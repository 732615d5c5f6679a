"""A server on a free port, in a thread of the test process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from xft.serving.server.app import create_app
from xft.serving.server.main import listen
from xft.serving.server.service import Service


@contextmanager
def running_server(service: Service) -> Iterator[str]:
    """Serve ``service`` on a loopback address; yield the address."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service, None, None), log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
