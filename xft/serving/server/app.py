"""HTTP application: routes, errors, access control."""

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

from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    TextCompletionRequest,
    error_body,
)
from xft.serving.server.service import Service
from xft.utils import paths

PAGE_FILES = {"/": "chat_page.html", "/chat_page.css": "chat_page.css", "/chat_page.js": "chat_page.js"}
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
CONTENT_SECURITY_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'"


def create_app(service: Service, api_key: str | None, allowed_hosts: Sequence[str] | None) -> FastAPI:
    """Create the application.

    Args:
        service: answers the requests.
        api_key: key that every request to the API must send; ``None`` for no key.
        allowed_hosts: accepted ``Host`` headers; ``None`` for any. Without the check, a web page open in a browser
            on this machine could reach the server through a host name of its own (DNS rebinding).
    """
    app = FastAPI(title="xft", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return service.list_models()

    @app.post("/v1/chat/completions", response_model=None)
    async def complete_chat(body: ChatCompletionRequest, request: Request) -> Response:
        return await service.complete_chat(body, request)

    @app.post("/v1/completions", response_model=None)
    async def complete_text(body: TextCompletionRequest, request: Request) -> Response:
        return await service.complete_text(body, request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for path, name in PAGE_FILES.items():
        app.add_api_route(path, _file_endpoint(name), methods=["GET"], response_model=None)

    _add_error_handlers(app)
    app.add_middleware(BodyLimitMiddleware, limit=service.limits.max_body_bytes)
    if api_key is not None:
        app.add_middleware(ApiKeyMiddleware, api_key=api_key)
    if allowed_hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*allowed_hosts])
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Return every error in the format that OpenAI's clients parse."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return JSONResponse(error.to_dict(), error.status)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, int | str))
        param = key.split(".")[0] or None
        reason = first["msg"]
        if first["type"] == "extra_forbidden":
            reason = "is not supported; remove it"
        return JSONResponse(error_body(400, f"{key or 'body'}: {reason}", None, param), 400)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(error_body(error.status_code, message), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        return JSONResponse(error_body(500, f"{type(error).__name__}; see the log of the server"), 500)


class BodyLimitMiddleware:
    """Rejects requests with a body that is too large, before the body is read into memory.

    Args:
        app: wrapped application.
        limit: maximum size of a body in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the received bytes of a request."""
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.limit:
                raise HTTPException(413, f"got a body of more than {self.limit:,} bytes")
            return message

        await self.app(scope, receive_counted, send)


class ApiKeyMiddleware:
    """Rejects requests to the API without the key.

    Args:
        app: wrapped application.
        api_key: expected key, compared in constant time against timing attacks.
    """

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self.app = app
        self.api_key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key of a request."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            sent = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), self.api_key):
                body = error_body(
                    401, "missing or wrong API key; send it as a bearer token", "invalid_api_key"
                )
                await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _file_endpoint(name: str) -> Callable[[], Awaitable[Response]]:
    """Return an endpoint that serves a file of the chat page."""

    async def send_file() -> Response:
        media_type = MEDIA_TYPES[name.rpartition(".")[2]]
        headers = {
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        content = paths.asset(name).read_bytes()
        return Response(content, media_type=f"{media_type}; charset=utf-8", headers=headers)

    return send_file
