"""/v1/templates: what can be sent, and which variables each needs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from notifier.api import answers
from notifier.api.auth import Known
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may
from notifier.domain.errors import NotFound, TemplateNotFound
from notifier.templating import Template

router = APIRouter(prefix="/v1/templates", tags=["templates"])


@router.get("", responses=answers.TEMPLATES | may(401, 429, 503))
async def list_templates(house: TheHouse, _: Known) -> Response:
    """Every template by name."""
    return answers.json({"items": [_body(template) for template in house.catalogue], "next": None})


@router.get("/{name}", responses=answers.TEMPLATE | may(401, 404, 422, 429, 503))
async def get_template(name: Annotated[str, Path(min_length=1, max_length=100)], house: TheHouse, _: Known) -> Response:
    """One template with its variables."""
    try:
        return answers.json(_body(house.catalogue.get(name)))
    except TemplateNotFound as error:
        raise NotFound(error.detail) from None


def _body(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "title": template.title,
        "category": template.category,
        "priority": template.priority,
        "expires_in": template.expires_in.total_seconds(),
        "channels": list(template.channels),
        "locales": list(template.locales),
        "version": template.version,
        "variables": [
            {"name": v.name, "type": v.type, "required": v.required, "example": v.example} for v in template.variables
        ],
    }
