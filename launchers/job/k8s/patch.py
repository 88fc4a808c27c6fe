"""Maps laid over maps: how a job's `k8s` lies over the cluster profile's, and `k8s.patch` over the manifest."""

from __future__ import annotations

from typing import Any


def over(below: Any, above: Any) -> Any:
    """`above` over `below`, neither of them changed.

    Maps merge key by key, and null takes a key away (as in RFC 7386). Lists of named things (containers, volumes,
    variables) merge by `name`, new ones at the end; any other list is replaced whole.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        kept = {key: value for key, value in below.items() if key not in above}
        changed = {key: over(below.get(key), value) for key, value in above.items() if value is not None}
        # Keys keep the places that they had, so that a diff shows the change alone.
        return {key: (changed | kept)[key] for key in dict.fromkeys([*below, *above]) if key in changed | kept}
    if _are_named(below) and _are_named(above):
        by_name = {item["name"]: item for item in below}
        for item in above:
            by_name[item["name"]] = over(by_name.get(item["name"]), item)
        return list(by_name.values())
    return over({}, above) if isinstance(above, dict) else above


def _are_named(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value)
