"""From the bytes of a request to an object: duplicate and unknown fields, wrong types, defaults of the CRDs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from . import status
from .patches import APPLY_PATCH, FORMATS
from .resources import Obj, Resource
from .schemas import resolved, schema_of
from .status import ApiError, Cause

YAML_TYPES = ("application/yaml", APPLY_PATCH)
MEDIA_TYPES = ["application/json", "application/yaml", *FORMATS]  # protobuf, which some of kubectl prefers, is not read


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its keys stood there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.duplicates = sorted({key for key in keys if keys.count(key) > 1}) if len(keys) != len(self) else []


def parsed(body: bytes, content_type: str) -> tuple[Any, list[str]]:
    """The document, and the paths of its duplicate fields (found in JSON only)."""
    if content_type not in MEDIA_TYPES:
        raise status.unsupported_media_type(content_type, MEDIA_TYPES)
    try:
        if content_type in YAML_TYPES and not body.lstrip().startswith((b"{", b"[")):
            return yaml.safe_load(body), []
        document = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, yaml.YAMLError) as error:
        raise status.bad_request(f"the object provided is unrecognized: {error}") from None
    return document, _duplicates(document, "")


def _duplicates(value: Any, path: str) -> list[str]:
    if isinstance(value, list):
        return [found for index, entry in enumerate(value) for found in _duplicates(entry, f"{path}[{index}]")]
    if not isinstance(value, _Pairs):
        return []
    here = [_join(path, key) for key in value.duplicates]
    return here + [found for key, entry in value.items() for found in _duplicates(entry, _join(path, key))]


def decoded(resource: Resource, document: Any, duplicates: list[str], field_validation: str) -> tuple[Obj, list[str]]:
    """The object without unknown fields, and the warnings about them; ApiError 400 where that is refused."""
    if not isinstance(document, dict):
        raise status.bad_request("the object provided is unrecognized: an object is due")
    _check_kind(resource, document)
    unknown: list[str] = []
    obj: Obj = _pruned(schema_of(resource), document, "", unknown)
    complaints = [f'unknown field "{path}"' for path in unknown] + [f'duplicate field "{path}"' for path in duplicates]
    if complaints and field_validation == "Strict":
        raise _unreadable(resource, f"strict decoding error: {', '.join(complaints)}")
    _check_types(resource, obj)
    return obj, complaints if field_validation == "Warn" else []


def _check_kind(resource: Resource, document: Obj) -> None:
    version, kind = document.get("apiVersion", resource.api_version), document.get("kind", resource.kind)
    if version != resource.api_version:
        expected = f"does not match the expected API version ({resource.api_version})"
        raise status.bad_request(f"the API version in the data ({version}) {expected}")
    if kind != resource.kind:
        why = f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise status.bad_request(f'{why}: no kind "{kind}" is registered for the {resource.plural} endpoint')
    document["apiVersion"], document["kind"] = version, kind


def _unreadable(resource: Resource, why: str) -> ApiError:
    what = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    return status.bad_request(f"{what}: {why}")


def _pruned(schema: Obj, value: Any, path: str, unknown: list[str]) -> Any:
    """A copy without the fields that the schema does not know; their paths go to `unknown`."""
    schema = resolved(schema)
    if isinstance(value, list):
        items = schema.get("items")
        return [_pruned(items, entry, f"{path}[{i}]", unknown) for i, entry in enumerate(value)] if items else value
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    if not properties and not isinstance(others, dict):
        return dict(value)
    kept = {}
    for key, entry in value.items():
        known = (properties or {}).get(key, others if isinstance(others, dict) else None)
        if known is None:
            unknown.append(_join(path, key))
        else:
            kept[key] = _pruned(known, entry, _join(path, key), unknown)
    for key, known in (properties or {}).items():
        if "default" in known and key not in kept:
            kept[key] = known["default"]
    return kept


@cache
def _validator(resource: Resource) -> Draft202012Validator:
    return Draft202012Validator(schema_of(resource))


def _check_types(resource: Resource, obj: Obj) -> None:
    """Wrong types are 400 where Go structs are decoded (Kubernetes' own kinds, all metadata), else 422."""
    errors = sorted(_validator(resource).iter_errors(obj), key=lambda error: str(error.json_path))
    causes = []
    for error in errors:
        decoded_by_go = not resource.custom or (error.absolute_path and error.absolute_path[0] == "metadata")
        if decoded_by_go and error.validator == "required":
            causes.append(_cause(error))
        elif decoded_by_go:
            given, field = _type_name(error.instance), ".".join(str(p) for p in error.path if isinstance(p, str))
            wanted = error.schema.get("type", "quantity") if isinstance(error.schema, dict) else ""
            wanted = wanted[0] if isinstance(wanted, list) else wanted
            why = f"json: cannot unmarshal {given} into Go struct field {resource.kind}.{field} of type {wanted}"
            raise _unreadable(resource, why)
        else:
            causes.append(_cause(error))
    if causes:
        raise status.invalid(resource, obj.get("metadata", {}).get("name", ""), causes)


def _cause(error: ValidationError) -> Cause:
    field = ""
    for part in error.absolute_path:
        field = f"{field}[{part}]" if isinstance(part, int) else _join(field, part)
    if error.validator == "required":
        missing = error.message.split("'")[1]  # one error for each
        return Cause("FieldValueRequired", _join(field, missing), "Required value")
    if error.validator == "type":
        given, wanted = _type_name(error.instance), error.validator_value
        wanted = ",".join(t for t in wanted if t != "null") if isinstance(wanted, list) else wanted
        why = f'Invalid value: "{given}": {field} in body must be of type {wanted}: "{given}"'
        return Cause("FieldValueTypeInvalid", field, why)
    return Cause("FieldValueInvalid", field, f"Invalid value: {json.dumps(error.instance)}: {error.message}")


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", type(None): "null"}
    return names.get(type(value), "object")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
