"""How pages are made: one way to fill their templates, which lie in this room."""

from __future__ import annotations

import base64
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache
def template(name: str) -> Template:
    """A template by its file name; what it is filled with is escaped, what it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("tasks", "review"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment.get_template(name)
