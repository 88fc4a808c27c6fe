"""From a URL to what is asked: which resource, which object, which verb."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.resources import Obj, Resource

from .rbac import Request

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True)
class Target:
    resource: Resource
    namespace: str
    name: str
    subresource: str

    def verb(self, method: str, query: Mapping[str, str]) -> str:
        """As RBAC names it."""
        if method == "GET":
            watching = query.get("watch") in ("true", "1")
            return "get" if self.name else "watch" if watching else "list"
        if method == "DELETE":
            return "delete" if self.name else "deletecollection"
        if method in VERBS and (method == "POST") == (not self.name or bool(self.subresource)):
            return VERBS[method]
        if method in VERBS and self.subresource:
            return VERBS[method]
        raise status.no_such_method(method)

    def question(self, verb: str) -> Request:
        plural = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        return Request(verb, self.resource.group, plural, self.namespace, self.name)


def target_of(path: str, resources: Collection[Resource]) -> Target | None:
    """None where there is nothing: the server's answer is then plain text."""
    parts = path.strip("/").split("/")
    head, rest = (parts[:2], parts[2:]) if parts[0] == "api" else (parts[:3], parts[3:])
    api_version = "/".join(head[1:])
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3:
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    for resource in resources:
        if (resource.api_version, resource.plural) == (api_version, plural):
            return Target(resource, namespace, name, subresource)
    return None


def delete_options(document: object, query: Mapping[str, str]) -> Obj:
    """DeleteOptions of a request's body and query."""
    options: Obj = dict(document) if isinstance(document, dict) else {}
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
    if "dryRun" in query:
        options["dryRun"] = [query["dryRun"]]
    return options
