"""One YAML file of a user becomes one pydantic model, or a complaint in the user's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
DATASET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Of datasets, clusters and destinations: they become parts of paths."""


class Settings(BaseModel):
    """Nothing that is not known, and nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a model.

    Raises
    ------
    ConfigError
        With the file, the key and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - is safe
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ConfigError(complaints(str(path), model, error)) from None


def complaints(where: str, model: type[BaseModel], error: ValidationError) -> str:
    """What is wrong, a line for each key, and what is allowed."""
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"] if part != "root") or "the file"
        allowed = ""
        if item["type"] == "extra_forbidden":
            parent = _model_at(model, item["loc"][:-1])
            allowed = f"; the keys are {', '.join(parent.model_fields)}"
        lines.append(f"{where}: {key}: {said_of(item)}{allowed}")
    return "\n".join(lines)


def said_of(item: ErrorDetails) -> str:
    """What pydantic says of one mistake; what is ours it passes on under a title of its own."""
    return item["msg"].removeprefix("Value error, ")


def _model_at(model: type[BaseModel], keys: tuple[Any, ...]) -> type[BaseModel]:
    """The model of a place; an index of a list or a key of a mapping is a place within its field's."""
    for key in keys:
        if isinstance(key, str) and key in model.model_fields:
            found = list(models_in(model.model_fields[key].annotation))
            model = found[0] if found else model
    return model


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of: ``Night | None``, ``list[Destination]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.YAMLError(f"a key must be a word{key_node.start_mark}")
            if key in seen:
                raise yaml.YAMLError(f"the key {key!r} stands twice{key_node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)
