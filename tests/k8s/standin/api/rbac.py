"""Who may do what: bearer tokens, Roles and RoleBindings."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.resources import ROLE_BINDINGS, ROLES, Obj, Resource

from .storage import Store

GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Request:
    """One question to the authorizer. `resource` with its subresource: `pods/log`."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


class Authorizer:
    """Tokens and the users behind them; an administrator may do everything."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.admin_token = secrets.token_urlsafe(24)
        self._users = {self.admin_token: "kubernetes-admin"}

    def issue(self, namespace: str, account: str) -> str:
        """A token for a service account."""
        token = secrets.token_urlsafe(24)
        self._users[token] = f"system:serviceaccount:{namespace}:{account}"
        return token

    def user(self, authorization: str) -> str:
        """The user of an Authorization header; ApiError 401 for a token that nobody issued."""
        if not authorization:
            return "system:anonymous"
        try:
            return self._users[authorization.removeprefix("Bearer ").strip()]
        except KeyError:
            raise status.unauthorized() from None

    def allows(self, user: str, request: Request) -> bool:
        return user == "kubernetes-admin" or any(
            _grants(rule, request) for rule in self._rules(user, request.namespace)
        )

    def check(self, user: str, resource: Resource, request: Request) -> None:
        """ApiError 403 unless the user may."""
        if self.allows(user, request):
            return
        what = f'User "{user}" cannot {request.verb} resource "{request.resource}" in API group "{request.group}"'
        where = f' in the namespace "{request.namespace}"' if request.namespace else " at the cluster scope"
        raise status.forbidden(resource, request.name, what + where)

    def _rules(self, user: str, namespace: str) -> Iterator[Obj]:
        for binding in self._store.all(ROLE_BINDINGS, namespace) if namespace else []:
            if any(_subject(subject, namespace) == user for subject in binding.get("subjects") or []):
                role = self._store.get(ROLES, namespace, binding["roleRef"]["name"])
                yield from (role or {}).get("rules") or []


def _subject(subject: Obj, namespace: str) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"system:serviceaccount:{subject.get('namespace', namespace)}:{subject['name']}"
    return str(subject["name"])


def _grants(rule: Obj, request: Request) -> bool:
    def matches(key: str, value: str) -> bool:
        return value in (rule.get(key) or []) or "*" in (rule.get(key) or [])

    names = rule.get("resourceNames") or []
    named = not names or request.name in names
    return (
        named
        and matches("verbs", request.verb)
        and matches("apiGroups", request.group)
        and matches("resources", request.resource)
    )
