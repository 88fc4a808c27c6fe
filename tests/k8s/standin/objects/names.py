"""Rules of names, labels and annotations."""

from __future__ import annotations

import re

from .resources import NAMESPACES, SERVICES, Obj, Resource
from .selectors import LABEL_KEY
from .status import Cause

DNS_1123_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
DNS_1123_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
DNS_1035_LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
MAX_ANNOTATIONS = 256 * 1024

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def invalid(field: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", field, f'Invalid value: "{value}": {why}')


def dns_1035_problem(name: str) -> str:
    """Why a name is no DNS-1035 label; empty if it is one."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if DNS_1035_LABEL.match(name) else DNS_1035_RULE


def metadata_causes(resource: Resource, metadata: Obj) -> list[Cause]:
    """What is wrong with an object's metadata."""
    name = metadata.get("name", "")
    causes = []
    if not name:
        causes.append(Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required"))
    elif resource is SERVICES:
        if why := dns_1035_problem(name):
            causes.append(invalid("metadata.name", name, why))
    elif resource is NAMESPACES:
        if len(name) > 63 or not DNS_1123_LABEL.match(name):
            causes.append(invalid("metadata.name", name, LABEL_RULE))
    elif not DNS_1123_SUBDOMAIN.match(name):
        causes.append(invalid("metadata.name", name, SUBDOMAIN_RULE))
    elif len(name) > 253:
        causes.append(invalid("metadata.name", name, "must be no more than 253 characters"))
    causes += label_causes("metadata.labels", metadata.get("labels") or {})
    annotations = metadata.get("annotations") or {}
    causes += [c for key in annotations if (c := _key_cause("metadata.annotations", key.lower())) is not None]
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        why = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        causes.append(Cause("FieldValueTooLong", "metadata.annotations", why))
    return causes


def label_causes(field: str, labels: dict[str, str]) -> list[Cause]:
    causes = [c for key in labels if (c := _key_cause(field, key)) is not None]
    for value in labels.values():
        if len(value) > 63:
            causes.append(invalid(field, value, "must be no more than 63 characters"))
        elif not LABEL_VALUE.match(value):
            causes.append(invalid(field, value, LABEL_VALUE_RULE))
    return causes


def _key_cause(field: str, key: str) -> Cause | None:
    if LABEL_KEY.match(key) and len(key.rpartition("/")[2]) <= 63:
        return None
    why = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    return invalid(field, key, f"{why}alphanumeric character, and be no more than 63 characters")
