"""HTTP application: access control."""

import asyncio
from typing import Any

import httpx

from xft.models import TextGenerator
from xft.serving.server.app import create_app
from xft.serving.server.batcher import Batcher
from xft.serving.server.service import Limits, Service


def test_api_key_is_required_for_the_api_only(generator: TextGenerator) -> None:
    batcher = Batcher(1, 1)
    app = create_app(Service({"m": generator}, batcher, Limits(64, 8, 1)), "secret", None)

    async def request_all() -> list[tuple[int, Any]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            all_headers: list[dict[str, str]] = [
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer ö"},
                {"Authorization": "Bearer secret"},
            ]
            responses = [
                await client.get(
                    "/v1/models", headers=[(key, value.encode()) for key, value in headers.items()]
                )
                for headers in all_headers
            ]
            responses.append(await client.get("/health"))
            return [(response.status_code, response.json()) for response in responses]

    results = asyncio.run(request_all())
    batcher.close()
    assert [status for status, _ in results] == [401, 401, 401, 200, 200]
    assert results[0][1]["error"]["code"] == "invalid_api_key"
    assert "secret" not in str(results[:3])
