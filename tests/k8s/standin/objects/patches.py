"""The four patch formats.

Strategic merge patches are merged as the API conventions say for the lists that matter here: by `name`, `type`, `uid`
or `mountPath`; server-side apply merges likewise (who owns which field is not tracked).
"""

from __future__ import annotations

import copy
from typing import Any

from . import status
from .resources import Obj

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
FORMATS = [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "ports": "port",
}
SETS = ("finalizers",)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def strategic_merge(target: Any, patch: Any, field: str = "") -> Any:
    """As `merge`, but lists of named things are merged thing by thing."""
    if isinstance(patch, list) and isinstance(target, list):
        if field in SETS:
            return target + [entry for entry in patch if entry not in target]
        if field in MERGE_KEYS:
            return _merge_list(target, patch, MERGE_KEYS[field])
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key.startswith("$deleteFromPrimitiveList/"):
            listed = key.partition("/")[2]
            merged[listed] = [entry for entry in merged.get(listed, []) if entry not in value]
        elif not key.startswith("$"):
            merged[key] = strategic_merge(merged.get(key), value, key)
    return merged


def _merge_list(target: list[Obj], patch: list[Obj], key: str) -> list[Obj]:
    merged = {entry.get(key): entry for entry in target}
    for entry in patch:
        if entry.get("$patch") == "delete":
            merged.pop(entry.get(key), None)
        else:
            merged[entry.get(key)] = strategic_merge(merged.get(entry.get(key)), entry)
    return list(merged.values())


def json_patch(target: Obj, operations: list[Obj]) -> Obj:
    """RFC 6902, without `move` and `copy`."""
    document: Any = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise status.bad_request(
                f"the server rejected our request due to an error in our request: {error}"
            ) from error
    patched: Obj = document
    return patched


def _apply(document: Any, operation: Obj) -> Any:
    action, path = operation["op"], _pointer(operation["path"])
    if action == "test":
        if _at(document, path) != operation["value"]:
            raise ValueError(f"testing path {operation['path']} failed")
        return document
    if action not in ("add", "remove", "replace"):
        raise ValueError(f"unexpected kind: {action}")
    if action == "remove":
        _remove(document, path)
        return document
    value = operation["value"]
    if not path:
        return value
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        if last == "-":
            parent.append(value)
        elif action == "replace":
            parent[int(last)] = value
        else:
            parent.insert(int(last), value)
    else:
        if action == "replace" and last not in parent:
            raise KeyError(f"replace operation does not apply: doc is missing key: {operation['path']}")
        parent[last] = value
    return document


def _pointer(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _remove(document: Any, path: list[str]) -> None:
    parent = _at(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


def patched(target: Obj, patch: Any, content_type: str) -> Obj:
    """`target` with a patch of this format applied; the target stays as it is."""
    if content_type == JSON_PATCH:
        return json_patch(target, patch)
    change = merge if content_type == MERGE_PATCH else strategic_merge
    result: Obj = change(copy.deepcopy(target), patch)
    return result
