"""Static files: the web page at /, the documentation at /docs; nothing comes from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HERE = Path(__file__).parent
PAGE, SWAGGER = _HERE / "page", _HERE / "vendor" / "swagger-ui"
_COMMON = (
    "default-src 'none'; script-src 'self'; connect-src 'self' blob: data:; "
    "img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self' blob:; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
)
PAGE_POLICY = _COMMON + "style-src 'self'"
DOCS_POLICY = _COMMON + "style-src 'self' 'unsafe-inline'"
"""swagger-ui writes style attributes."""
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>metro_ray API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""


class _Files(StaticFiles):
    """Files that browsers ask about again each time they are used (304 where nothing changed)."""

    def __init__(self, folder: Path, policy: str, **options: Any) -> None:
        super().__init__(directory=folder, **options)
        self._policy = policy

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        _protect(response, self._policy)
        return response


def mount_pages(app: FastAPI) -> None:
    """Add the pages; comes after all routes, since / takes what is left."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return _protect(HTMLResponse(_DOCS), DOCS_POLICY)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return _protect(Response(_START, media_type="text/javascript"), DOCS_POLICY)

    app.mount("/docs/assets", _Files(SWAGGER, DOCS_POLICY), name="swagger-ui")
    if PAGE.is_dir():
        app.mount("/", _Files(PAGE, PAGE_POLICY, html=True), name="page")


def _protect(response: Any, policy: str) -> Any:
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response
