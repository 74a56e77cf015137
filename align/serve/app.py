"""The application: routes behind a guard."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from align.serve import classify, docs, embeddings, heat, items, search_route, status
from align.serve.guard import Guard
from align.serve.metrics import Metrics
from align.serve.page import page_routes
from align.serve.refusal import Refusal
from align.serve.respond import refuse
from align.serve.service import Service

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def make_app(service: Service, *, hosts: Collection[str] = LOOPBACK, token: str = "") -> ASGIApp:
    """Return the server as an ASGI application.

    hosts: names in a request's Host, beside the address that it has reached. token: "" asks for none.
    """
    metrics = Metrics()
    errors: dict[Any, Any] = {Refusal: _refuse, HTTPException: _refuse_http, Exception: _fail}
    app = Starlette(routes=[*list_routes(), *page_routes(service)], exception_handlers=errors)
    app.router.redirect_slashes = False
    app.state.service, app.state.metrics = service, metrics
    return Guard(app, service, metrics, hosts=hosts, token=token)


def list_routes() -> list[Route]:
    """Return the routes of the API."""
    return [
        Route("/v1/search", search_route.search, methods=["POST"]),
        Route("/v1/embeddings", embeddings.embeddings, methods=["POST"]),
        Route("/v1/classify", classify.classify, methods=["POST"]),
        Route("/v1/items/{id}", items.item, methods=["GET"]),
        Route("/v1/items/{id}/media/{modality}", items.media, methods=["GET"]),
        Route("/v1/items/{id}/face/{modality}", items.face, methods=["GET"]),
        Route("/v1/items/{id}/heat/{modality}", heat.send_heat, methods=["GET"]),
        Route("/v1/facets", status.facets, methods=["GET"]),
        Route("/v1/models", status.models, methods=["GET"]),
        Route("/v1/models/{name:path}", status.model, methods=["GET"]),
        Route("/healthz", status.healthz, methods=["GET"]),
        Route("/metrics", status.metrics, methods=["GET"]),
        Route("/openapi.json", docs.openapi, methods=["GET"]),
        Route("/docs", docs.docs, methods=["GET"]),
        Route("/docs.css", docs.style, methods=["GET"]),
    ]


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refuse(error, request.scope)


async def _fail(request: Request, error: Exception) -> Response:
    """Answer for an error of ours, which the guard logs."""
    return refuse(Refusal(500, "the server failed; its log says how"), request.scope)


async def _refuse_http(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that no route has."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = refuse(Refusal(405, f"this path is asked with {allowed}"), request.scope)
        response.headers["allow"] = allowed
        return response
    if error.status_code == 404:
        return refuse(Refusal(404, "there is nothing at this path; /docs lists the API"), request.scope)
    return refuse(Refusal(error.status_code, str(error.detail)), request.scope)
