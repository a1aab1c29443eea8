"""The API's own description: problem answers, bodies read by hand, and a page without a CDN."""

from collections import defaultdict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from model.core.errors import MeetError
from service.admin_schemas import Activate, Evaluate
from service.bodies import FORM
from service.formats import Form
from service.problems import INTERNAL, MEDIA_TYPE, Kind, kind_of
from service.schemas import ImageSearch, ImageUpload, Problem, SimilarSearch, TextSearch

REF = "#/components/schemas/{model}"
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MEET API</title>
<link rel="icon" href="docs/assets/favicon.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
Responses: TypeAlias = dict[int | str, dict[str, Any]]
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""


def problems(*errors: type[MeetError]) -> Responses:
    """OpenAPI responses by status for the errors that a route can answer with; 500 always."""
    kinds: dict[int, list[Kind]] = defaultdict(list)
    for kind in (*map(kind_of, errors), INTERNAL):
        kinds[kind.status].append(kind)
    content = {MEDIA_TYPE: {"schema": {"$ref": REF.format(model=Problem.__name__)}}}
    return {
        status: {
            "description": "; ".join(f"{kind.code}: {kind.title}" for kind in group),
            "content": content,
        }
        for status, group in kinds.items()
    }


def body(
    *, json: type[BaseModel], form: type[BaseModel] | None = None, required: bool = True
) -> dict[str, Any]:
    """The `requestBody` of a route that reads these schemas by itself."""
    schemas = dict.fromkeys(Form, json) | ({} if form is None else {FORM: form})
    content = {
        media: {"schema": {"$ref": REF.format(model=schema.__name__)}}
        for media, schema in schemas.items()
    }
    return {"requestBody": {"required": required, "content": content}}


def forms(*answers: type[BaseModel]) -> Responses:
    """The 200 of a route that gives one of these answers as JSON or msgpack."""
    schemas = [{"$ref": REF.format(model=answer.__name__)} for answer in answers]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    packed = {form.value: {"schema": schema} for form in Form if form.packed}
    return {200: {"description": "The answer, in the form that Accept asks for", "content": packed}}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A replacement of `app.openapi` that also holds the schemas that routes read by hand."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return openapi


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    by_hand: list[type[BaseModel]] = [
        *(TextSearch, ImageSearch, ImageUpload, SimilarSearch, Activate, Evaluate),
    ]
    _, definitions = models_json_schema(
        [*((schema, "validation") for schema in by_hand), (Problem, "serialization")],
        ref_template=REF,
    )
    document["components"]["schemas"] |= definitions["$defs"]
    _secure(document)
    return document


def _secure(document: dict[str, Any]) -> None:
    """Say of what can be answered 401 which keys open it; a server without keys needs none."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            if "401" in operation["responses"]:
                operation["security"] = [{"bearer": []}, {"api_key": []}, {}]


router = APIRouter(include_in_schema=False, responses={304: {}, 404: {}})


@router.get("/openapi.json")
async def description(request: Request) -> JSONResponse:
    """The document itself."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def page() -> HTMLResponse:
    """The API's page; every link in it is relative to this server."""
    return HTMLResponse(PAGE)


@router.get("/docs/start.js")
async def start() -> Response:
    """The page's own script, apart from it so that a strict content policy can hold."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """One file of the packaged Swagger UI."""
    if name not in ASSETS:
        raise HTTPException(404)
    path = Path(str(files("fastapi_offline") / "static" / name))
    return FileResponse(path, media_type=ASSETS[name])
