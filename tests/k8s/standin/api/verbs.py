"""Requests that are answered at once: everything but watches and logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.decoding import decoded, parsed
from tests.k8s.standin.objects.patches import APPLY_PATCH, FORMATS, STRATEGIC_PATCH, patched
from tests.k8s.standin.objects.resources import SERVICE_ACCOUNTS, Obj, Resource
from tests.k8s.standin.objects.status import ApiError

from .listing import listed, selected
from .rbac import Authorizer, Request
from .registry import Registry
from .routes import Target, delete_options


@dataclass(frozen=True)
class Answer:
    body: Obj
    code: int = 200
    warnings: list[str] = field(default_factory=list)


class Call:
    """One request, by a user who may make it."""

    def __init__(
        self,
        registry: Registry,
        authorizer: Authorizer,
        target: Target,
        query: Mapping[str, str],
        body: tuple[bytes, str],  # with its content type
    ) -> None:
        self._registry = registry
        self._authorizer = authorizer
        self._target = target
        self._query = query
        self._body, self._content_type = body

    def answer(self, verb: str) -> Answer:
        """ApiError where the request is refused."""
        target = self._target
        if target.resource is SERVICE_ACCOUNTS and target.subresource == "token":
            return self._token()
        if target.subresource not in ("", "status"):
            raise status.not_found(target.resource, target.name)
        verbs: dict[str, Callable[[], Answer]] = {
            "list": lambda: Answer(listed(self._registry.store, target, self._query)),
            "get": lambda: Answer(self._registry.get(*self._key)),
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": lambda: Answer(self._registry.delete(*self._key, self._delete_options())),
            "deletecollection": self._delete_all,
        }
        return verbs[verb]()

    @property
    def _key(self) -> tuple[Resource, str, str]:
        return self._target.resource, self._target.namespace, self._target.name

    def _create(self) -> Answer:
        obj, warnings = self._decoded(*parsed(self._body, self._content_type))
        resource, namespace, _ = self._key
        return Answer(self._registry.create(resource, namespace, obj, dry_run=self._dry_run()), 201, warnings)

    def _update(self) -> Answer:
        obj, warnings = self._decoded(*parsed(self._body, self._content_type))
        return Answer(self._store(obj), 200, warnings)

    def _patch(self) -> Answer:
        resource, namespace, _ = self._key
        formats = [form for form in FORMATS if form != STRATEGIC_PATCH or not resource.custom]
        if self._content_type not in formats:
            raise status.unsupported_media_type(self._content_type, formats)
        change, duplicates = parsed(self._body, self._content_type)
        if self._content_type == APPLY_PATCH:
            self._check_apply(change, duplicates)
            if self._registry.store.get(*self._key) is None:
                return Answer(self._registry.create(resource, namespace, change, dry_run=self._dry_run()), 201)
        old = self._registry.get(*self._key)
        obj, warnings = self._decoded(patched(old, change, self._content_type), duplicates)
        return Answer(self._store(obj), 200, warnings)

    def _check_apply(self, change: Obj, duplicates: list[str]) -> None:
        """Server-side apply has a manager, and reads strictly whatever fieldValidation says."""
        resource, namespace, name = self._key
        if not self._query.get("fieldManager"):
            raise status.bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        try:
            decoded(resource, dict(change), duplicates, "Strict")
        except ApiError as refusal:
            what = f"{namespace}/{name}; {resource.api_version}, Kind={resource.kind}"
            raise ApiError(500, "", f"failed to create typed patch object ({what}): {refusal}") from refusal

    def _store(self, obj: Obj) -> Obj:
        return self._registry.update(*self._key, obj, subresource=self._target.subresource, dry_run=self._dry_run())

    def _delete_options(self) -> Obj:
        return delete_options(parsed(self._body, self._content_type)[0] if self._body else None, self._query)

    def _delete_all(self) -> Answer:
        resource, namespace, _ = self._key
        test = selected(self._target, self._query)
        found = [obj for obj in self._registry.store.all(resource, namespace) if test(obj)]
        for obj in found:
            where = obj["metadata"].get("namespace", "")
            self._registry.delete(resource, where, obj["metadata"]["name"], self._delete_options())
        listing = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": {}}
        return Answer({**listing, "items": found})

    def _token(self) -> Answer:
        _, namespace, name = self._key
        self._registry.get(*self._key)
        issued = {"token": self._authorizer.issue(namespace, name), "expirationTimestamp": "2999-01-01T00:00:00Z"}
        request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {}}
        return Answer({**request, "status": issued}, 201)

    def _decoded(self, document: object, duplicates: list[str]) -> tuple[Obj, list[str]]:
        given = self._query.get("fieldValidation") or "Warn"
        if given not in ("Ignore", "Warn", "Strict"):
            supported = '"", "Ignore", "Strict", "Warn"'
            raise status.bad_request(f'fieldValidation: Unsupported value: "{given}": supported values: {supported}')
        return decoded(self._target.resource, document, duplicates, given)

    def _dry_run(self) -> bool:
        given = self._query.get("dryRun", "All")
        if given != "All":
            raise status.bad_request(f'dryRun: Unsupported value: "{given}": supported values: "All"')
        return "dryRun" in self._query


def access_review(authorizer: Authorizer, user: str, body: bytes, content_type: str) -> Answer:
    """A SelfSubjectAccessReview: may I?"""
    review: Obj = parsed(body, content_type)[0]
    asked = review["spec"].get("resourceAttributes") or {}
    resource = "/".join(filter(None, [asked.get("resource"), asked.get("subresource")]))
    request = Request(
        asked.get("verb", ""), asked.get("group", ""), resource, asked.get("namespace", ""), asked.get("name", "")
    )
    return Answer({**review, "status": {"allowed": authorizer.allows(user, request)}}, 201)
