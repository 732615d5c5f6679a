"""The server over HTTP: paths, errors, and who may come in."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xft.serving.server.protocol import ApiError, ChatAsked, TextAsked, error_body
from xft.serving.server.service import Service
from xft.utils import paths

PAGE = {"/": "chat_page.html", "/chat_page.css": "chat_page.css", "/chat_page.js": "chat_page.js"}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'"


def make_app(service: Service, key: str | None, hosts: Sequence[str] | None) -> FastAPI:
    """The application.

    Args:
        service: what answers.
        key: that every request to the API must bring; ``None`` lets all in.
        hosts: names that the server may be called by; ``None`` for any. Without this, a page that a
            browser on this machine has open could reach it under a name of its own.
    """
    app = FastAPI(title="xft", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return service.list_models()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(asked: ChatAsked, request: Request) -> Response:
        return await service.chat(asked, request)

    @app.post("/v1/completions", response_model=None)
    async def text(asked: TextAsked, request: Request) -> Response:
        return await service.text(asked, request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for path, name in PAGE.items():
        app.add_api_route(path, _file(name), methods=["GET"], response_model=None)

    _add_errors(app)
    app.add_middleware(BodyLimit, limit=service.limits.body)
    if key is not None:
        app.add_middleware(Guard, key=key)
    if hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts])
    return app


def _add_errors(app: FastAPI) -> None:
    """Every error in the form that OpenAI's clients read."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.to_dict(), error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"][1:] if isinstance(each, int | str))
        param = where.split(".")[0] or None
        said = first["msg"]
        if first["type"] == "extra_forbidden":
            said = "is not served here; leave it out"
        return JSONResponse(error_body(400, f"{where or 'body'}: {said}", None, param), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        said = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(error_body(error.status_code, said), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return JSONResponse(error_body(500, f"{type(error).__name__} (the server's log has more)"), 500)


class BodyLimit:
    """Refuses a request whose body is too large, before it is read into memory.

    Args:
        app: what it stands before.
        limit: bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, f"the request has more than {self.limit:,} bytes")
            return message

        await self.app(scope, counted, send)


class Guard:
    """Lets no request to the API in that does not bring the key.

    Args:
        app: what it stands before.
        key: compared in constant time, so that nobody can find it letter by letter.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the key."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            given = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.key):
                body = error_body(
                    401, "the API key is missing or wrong: send it as a bearer token", "invalid_api_key"
                )
                await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        kind = TYPES[name.rpartition(".")[2]]
        headers = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        return Response(
            paths.asset(name).read_bytes(), media_type=f"{kind}; charset=utf-8", headers=headers
        )

    return send
