"""JSON Schemas (draft 2020-12) from types: what a document may hold, and nothing else.

Dataclasses, `tuple`, `list`, `dict`, `Literal`, `X | None` and plain values are understood, and the
`Shape`s below for documents that are not the fields of one dataclass. Objects take no other keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}


@dataclass(frozen=True, eq=False)
class Shape:
    """An object with these keys; those that are `Omittable` may be absent."""

    name: str
    keys: Mapping[str, Any]
    about: str


@dataclass(frozen=True)
class Nullable:
    """`kind`, or null."""

    kind: Any


@dataclass(frozen=True)
class ListOf:
    """A list of `kind`."""

    kind: Any


@dataclass(frozen=True)
class MapOf:
    """An object with keys that the user chose (ids, names), and values of `kind`."""

    kind: Any


@dataclass(frozen=True)
class AnyOf:
    """One of `kinds`."""

    kinds: tuple[Any, ...]


@dataclass(frozen=True)
class Omittable:
    """A key that may be absent, with a value of `kind`."""

    kind: Any


def shape(
    name: str, base: Any = None, /, *, about: str = "", without: tuple[str, ...] = (), **keys: Any
) -> Shape:
    """The fields of the dataclass `base`, or the keys of a shape, but for `without`; and `keys`.

    >>> shape("pair", left=int, right=Omittable(int)).keys["left"]
    <class 'int'>
    """
    own: dict[str, Any] = {}
    if isinstance(base, Shape):
        own = dict(base.keys)
    elif base is not None:
        own = {field: _nullable(kind) for field, kind in _hints(base).items()}
    kept = {field: kind for field, kind in own.items() if field not in without}
    return Shape(name, {**kept, **keys}, about or _first_paragraph(base))


def schema_of(kind: Any, *, title: str) -> dict[str, Any]:
    """The schema of a document of type `kind`.

    >>> schema_of(shape("pair", left=int), title="pair")["required"]
    ['left']
    """
    definitions: dict[str, tuple[Any, dict[str, Any]]] = {}
    body = _object(kind, definitions) if isinstance(kind, Shape) else _schema(kind, definitions)
    document = {"$schema": DIALECT, "title": title, **body}
    if definitions:
        document["$defs"] = {name: found for name, (_, found) in sorted(definitions.items())}
    return document


def _schema(kind: Any, definitions: dict[str, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if isinstance(kind, Nullable):
        return _any([kind.kind, NoneType], definitions)
    if isinstance(kind, AnyOf):
        return _any(list(kind.kinds), definitions)
    if isinstance(kind, ListOf) or (origin is list):
        only = kind.kind if isinstance(kind, ListOf) else inner[0]
        return {"type": "array", "items": _schema(only, definitions)}
    if isinstance(kind, MapOf) or origin is dict:
        only = kind.kind if isinstance(kind, MapOf) else inner[1]
        return {"type": "object", "additionalProperties": _schema(only, definitions)}
    if origin in (Union, UnionType):
        return _any(list(inner), definitions)
    if origin is Literal:
        return {"enum": list(inner)} if inner[1:] else {"const": inner[0]}
    if origin is tuple:
        if inner[1:] == (...,):
            return {"type": "array", "items": _schema(inner[0], definitions)}
        items = [_schema(one, definitions) for one in inner]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if isinstance(kind, Shape) or is_dataclass(kind):
        return _reference(kind, definitions)
    return {"type": _PLAIN[kind]}


def _any(kinds: list[Any], definitions: dict[str, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """One of `kinds`: a list of type names where they are plain."""
    found = [_schema(one, definitions) for one in dict.fromkeys(kinds)]
    if all(set(one) == {"type"} for one in found):
        return {"type": [one["type"] for one in found]}
    return {"anyOf": found}


def _reference(kind: Any, definitions: dict[str, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    name = kind.name if isinstance(kind, Shape) else kind.__name__
    if name not in definitions:
        definitions[name] = (kind, {})
        definitions[name] = (kind, _object(kind, definitions))
    elif definitions[name][0] is not kind:
        raise ValueError(f"two types of one document have the name {name!r}")
    return {"$ref": f"#/$defs/{name}"}


def _object(kind: Any, definitions: dict[str, tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    described = kind if isinstance(kind, Shape) else shape(kind.__name__, kind)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, value in described.keys.items():
        if isinstance(value, Omittable):
            properties[name] = _schema(value.kind, definitions)
        else:
            properties[name] = _schema(value, definitions)
            required.append(name)
    return {
        **({"description": described.about} if described.about else {}),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _nullable(kind: Any) -> Any:
    """A float of a dataclass may be infinite or NaN, and JSON says null there."""
    if kind is float:
        return Nullable(float)
    if get_origin(kind) is tuple and float in get_args(kind):
        return tuple[tuple(_maybe(one) for one in get_args(kind))]  # type: ignore[misc]
    return kind


def _maybe(kind: Any) -> Any:
    return float | None if kind is float else kind


def _first_paragraph(kind: Any) -> str:
    text = (getattr(kind, "__doc__", None) or "").partition("\n\n")[0]
    return " ".join(text.replace("`", "").split())
