"""Merge nested maps: a job's `k8s` into the cluster profile's, and `k8s.patch` into the manifest."""

from __future__ import annotations

from typing import Any


def merge(below: Any, above: Any) -> Any:
    """`below` patched with `above`; neither argument is changed.

    Maps merge key by key and null removes a key (as in RFC 7386). Lists whose items have a `name` (containers, volumes,
    variables) merge by it, with new items at the end; any other list is replaced.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        kept = {key: value for key, value in below.items() if key not in above}
        changed = {key: merge(below.get(key), value) for key, value in above.items() if value is not None}
        # Keys keep their order, so that a diff shows only what the patch changes.
        return {key: (changed | kept)[key] for key in dict.fromkeys([*below, *above]) if key in changed | kept}
    if _are_named(below) and _are_named(above):
        by_name = {item["name"]: item for item in below}
        for item in above:
            by_name[item["name"]] = merge(by_name.get(item["name"]), item)
        return list(by_name.values())
    return merge({}, above) if isinstance(above, dict) else above


def _are_named(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value)
