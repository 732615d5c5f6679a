"""HTTP application: routes, errors, access control."""

import hmac
from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    TextCompletionRequest,
    error_body,
)
from xft.serving.server.request_body import read_body
from xft.serving.server.responses import AsciiResponse
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

    @app.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        return AsciiResponse(service.list_models())

    @app.post("/v1/chat/completions", response_model=None)
    async def complete_chat(request: Request) -> Response:
        body = await read_body(request, ChatCompletionRequest, service.limits.max_body_bytes)
        return await service.complete_chat(body, request)

    @app.post("/v1/completions", response_model=None)
    async def complete_text(request: Request) -> Response:
        body = await read_body(request, TextCompletionRequest, service.limits.max_body_bytes)
        return await service.complete_text(body, request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for path, name in PAGE_FILES.items():
        app.add_api_route(path, _file_endpoint(name), methods=["GET"], response_model=None)

    _add_error_handlers(app)
    if api_key is not None:
        app.add_middleware(ApiKeyMiddleware, api_key=api_key)
    if allowed_hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*allowed_hosts])
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Return every error in the format that OpenAI's clients parse."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return AsciiResponse(error.to_dict(), error.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return AsciiResponse(error_body(error.status_code, message), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        return AsciiResponse(error_body(500, f"{type(error).__name__}; see the log of the server"), 500)


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
                await AsciiResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
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
