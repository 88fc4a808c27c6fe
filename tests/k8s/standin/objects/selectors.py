"""Label and field selectors, as in the query of a list or watch."""

from __future__ import annotations

import re
from collections.abc import Callable

from . import status
from .resources import EVENTS, NODES, PODS, SECRETS, Obj, Resource

Test = Callable[[Obj], bool]

# Besides metadata.name and metadata.namespace. Custom resources have no others.
FIELDS: dict[Resource, tuple[str, ...]] = {
    PODS: ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    EVENTS: (
        *(f"involvedObject.{key}" for key in "kind namespace name uid apiVersion resourceVersion fieldPath".split()),
        *("reason", "type", "source", "reportingComponent"),
    ),
    SECRETS: ("type",),
    NODES: ("spec.unschedulable",),
}
SET_BASED = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)$")
TERM_END = re.compile(r",(?![^(]*\))")  # a comma outside of parentheses
NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
LABEL_KEY = re.compile(rf"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{NAME}$")


def by_labels(selector: str) -> Test:
    """The test of a label selector: `a=b,c!=d,e in (f,g),h,!i`."""
    tests = [_label_term(term.strip()) for term in TERM_END.split(selector)] if selector.strip() else []
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _label_term(term: str) -> Callable[[dict[str, str]], bool]:
    if match := SET_BASED.match(term):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        _check(key, term)
        return lambda labels: (labels.get(key) in values) == (operator == "in")
    for operator in ("!=", "==", "="):
        if operator in term:
            key, _, value = (part.strip() for part in term.partition(operator))
            _check(key, term)
            return lambda labels: (labels.get(key) == value) == (operator != "!=")
    absent = term.startswith("!")
    key = term.removeprefix("!").strip()
    _check(key, term)
    return lambda labels: (key not in labels) == absent


def _check(key: str, term: str) -> None:
    if not LABEL_KEY.match(key):
        raise status.bad_request(f'unable to parse requirement: invalid label key "{key}" in "{term}"')


def by_fields(resource: Resource, selector: str) -> Test:
    """The test of a field selector; the server refuses fields that this kind has no index for."""
    known = ("metadata.name", "metadata.namespace", *FIELDS.get(resource, ()))
    tests: list[tuple[str, str, bool]] = []
    for term in filter(None, selector.split(",")):
        operator = next((o for o in ("!=", "==", "=") if o in term), None)
        if operator is None:
            raise status.bad_request(f'invalid selector: "{selector}"; can\'t understand "{term}"')
        field, _, value = term.partition(operator)
        if field not in known:
            raise status.bad_request(f"field label not supported: {field}")
        tests.append((field, value, operator != "!="))
    return lambda obj: all((_field(obj, field) == value) == equal for field, value, equal in tests)


def _field(obj: Obj, path: str) -> str:
    if path == "source":
        path = "source.component"
    value: object = obj
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return str(value).lower() if isinstance(value, bool) else str(value or "")
