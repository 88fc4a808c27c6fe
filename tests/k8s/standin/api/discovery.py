"""What the server says it serves: /version, /api, /apis, and the OpenAPI v3 that kubectl asks before it validates."""

from __future__ import annotations

from functools import cache

from tests.k8s.standin.objects.resources import Obj, Resource
from tests.k8s.standin.objects.schemas import VERSION

VERBS = "create delete deletecollection get list patch update watch".split()
# Served without being stored.
REVIEWS = {
    "authorization.k8s.io/v1": Resource(
        "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
    )
}


@cache
def documents(served: frozenset[Resource]) -> dict[str, Obj]:
    """The documents by their paths."""
    versions = sorted({resource.api_version for resource in served} | set(REVIEWS))
    groups = [version for version in versions if "/" in version]
    major, minor = VERSION.split(".")
    found: dict[str, Obj] = {
        "/version": {"major": major, "minor": minor, "gitVersion": f"v{VERSION}.0", "platform": "linux/amd64"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]},
    }
    found |= {f"/apis/{v.partition('/')[0]}": {"kind": "APIGroup", "apiVersion": "v1", **_group(v)} for v in groups}
    addresses = {}
    for version in versions:
        address = f"apis/{version}" if "/" in version else f"api/{version}"
        resources = [resource for resource in served if resource.api_version == version]
        found[f"/{address}"] = _resource_list(version, resources)
        found[f"/openapi/v3/{address}"] = _openapi(f"/{address}", resources)
        addresses[address] = {"serverRelativeURL": f"/openapi/v3/{address}"}
    return {**found, "/openapi/v3": {"paths": addresses}}


def _group(api_version: str) -> Obj:
    name, _, version = api_version.partition("/")
    entry = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _resource_list(api_version: str, found: list[Resource]) -> Obj:
    listed = []
    for resource in sorted(found, key=lambda one: one.plural):
        row: Obj = {"name": resource.plural, "singularName": resource.kind.lower(), "namespaced": resource.namespaced}
        row.update(kind=resource.kind, verbs=VERBS)
        listed.append(row | ({"shortNames": list(resource.short_names)} if resource.short_names else {}))
        if resource.has_status:
            listed.append({**row, "name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]})
        if resource.plural == "pods":
            listed.append({**row, "name": "pods/log", "verbs": ["get"]})
            listed.append({**row, "name": "pods/exec", "verbs": ["create", "get"]})
    if api_version in REVIEWS:
        review = REVIEWS[api_version]
        listed.append({"name": review.plural, "kind": review.kind, "namespaced": False, "verbs": ["create"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed}


def _openapi(prefix: str, found: list[Resource]) -> Obj:
    """The paths, so that kubectl learns that the server takes dryRun and fieldValidation; no schemas."""
    parameters = [{"name": name, "in": "query"} for name in ("dryRun", "fieldValidation", "fieldManager", "force")]
    paths = {}
    for resource in found:
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        where = "namespaces/{namespace}/" if resource.namespaced else ""
        action = {"x-kubernetes-group-version-kind": kind, "parameters": parameters, "responses": {}}
        paths[f"{prefix}/{where}{resource.plural}/{{name}}"] = {"patch": action, "put": action}
        paths[f"{prefix}/{where}{resource.plural}"] = {"post": action}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": f"v{VERSION}.0"}, "paths": paths}
