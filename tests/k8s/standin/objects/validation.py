"""What the API server refuses in a well-typed object: the rules that no JSON schema holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .names import DNS_1123_LABEL, LABEL_RULE, invalid, metadata_causes
from .quantities import is_extended, quantity
from .resources import CONFIG_MAPS, PODS, SECRETS, TRAINJOBS, Obj, Resource
from .status import Cause

MAX_DATA = 1024 * 1024
CONFIG_KEY = re.compile(r"^[-._a-zA-Z0-9]+$")
CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
RESTART_POLICIES = ("Always", "OnFailure", "Never")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
# What may change in a pod once it is there.
MUTABLE_POD_FIELDS = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")


def causes_of(resource: Resource, obj: Obj, old: Obj | None) -> list[Cause]:
    """Everything that is wrong with an object, or with its change from `old`."""
    causes = metadata_causes(resource, obj["metadata"])
    if resource is PODS:
        causes += _pod(obj["spec"]) if old is None else _pod_change(obj["spec"], old["spec"])
    elif resource in (CONFIG_MAPS, SECRETS):
        causes += _data(obj, old)
    elif resource is TRAINJOBS:
        causes += _trainjob(obj, old)
    return causes


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value: {why}" if why else "Required value")


def forbidden(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def unsupported(field: str, value: str, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{name}"' for name in supported)
    return Cause("FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {listed}')


def _data(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    data = {**(obj.get("data") or {}), **(obj.get("binaryData") or {})}
    for key in data:
        if not CONFIG_KEY.match(key) or len(key) > 253:
            yield invalid(f"data[{key}]", key, CONFIG_KEY_RULE)
    if sum(len(str(value).encode()) for value in data.values()) > MAX_DATA:
        yield Cause("FieldValueTooLong", "", f"Too long: may not be more than {MAX_DATA} bytes")
    if old is not None and old.get("immutable"):
        if not obj.get("immutable"):
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        if obj.get("data") != old.get("data"):
            yield forbidden("data", "field is immutable when `immutable` is set")


def _pod_change(spec: Obj, old: Obj) -> Iterator[Cause]:
    def fixed(pod: Obj) -> Obj:
        kept = {key: value for key, value in pod.items() if key not in MUTABLE_POD_FIELDS}
        return {**kept, "containers": [{**container, "image": ""} for container in pod["containers"]]}

    if fixed(spec) != fixed(old) and (not old.get("nodeName") or fixed(spec) != {**fixed(old), "nodeName": ""}):
        yield forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
            "negative)",
        )


def _pod(spec: Obj) -> Iterator[Cause]:
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    yield from _names("spec.volumes", volumes)
    if not spec.get("containers"):
        yield required("spec.containers")
    containers = spec.get("containers") or []
    names = [container["name"] for container in [*(spec.get("initContainers") or []), *containers]]
    yield from _names("spec.containers", names)
    for place in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(place) or []):
            yield from _container(f"spec.{place}[{index}]", container, volumes)
    if spec["restartPolicy"] not in RESTART_POLICIES:
        yield unsupported("spec.restartPolicy", spec["restartPolicy"], RESTART_POLICIES)


def _names(field: str, names: list[str]) -> Iterator[Cause]:
    for index, name in enumerate(names):
        where = f"{field}[{index}].name"
        if not name:
            yield required(where)
        elif len(name) > 63 or not DNS_1123_LABEL.match(name):
            yield invalid(where, name, LABEL_RULE)
        elif name in names[:index]:
            yield Cause("FieldValueDuplicate", where, f'Duplicate value: "{name}"')


def _container(field: str, container: Obj, volumes: list[str]) -> Iterator[Cause]:
    if not container.get("image"):
        yield required(f"{field}.image")
    if container["imagePullPolicy"] not in PULL_POLICIES:
        yield unsupported(f"{field}.imagePullPolicy", container["imagePullPolicy"], PULL_POLICIES)
    for index, variable in enumerate(container.get("env") or []):
        if not variable["name"]:
            yield required(f"{field}.env[{index}].name")
        elif "=" in variable["name"] or not variable["name"].isprintable():
            rule = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield invalid(f"{field}.env[{index}].name", variable["name"], rule)
        if variable.get("value") and variable.get("valueFrom"):
            yield invalid(f"{field}.env[{index}].valueFrom", "", "may not be specified when `value` is not empty")
    paths: list[str] = []
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where = f"{field}.volumeMounts[{index}]"
        if mount["name"] not in volumes:
            yield Cause("FieldValueNotFound", f"{where}.name", f'Not found: "{mount["name"]}"')
        if mount["mountPath"] in paths:
            yield invalid(f"{where}.mountPath", mount["mountPath"], "must be unique")
        paths.append(mount["mountPath"])
    yield from _resources(f"{field}.resources", container["resources"])


def _resources(field: str, resources: Obj) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            where = f"{field}.{part}[{name}]"
            if "/" not in name and name not in ("cpu", "memory", "ephemeral-storage") and "hugepages-" not in name:
                yield invalid(where, name, "must be a standard resource type or fully qualified")
            if quantity(amount) < 0:
                yield invalid(where, str(amount), "must be greater than or equal to 0")
            elif is_extended(name) and quantity(amount) % 1:
                yield invalid(where, str(amount), "must be an integer")
    for name, amount in requests.items():
        where, limit = f"{field}.requests", limits.get(name)
        if is_extended(name) and (limit is None or quantity(limit) != quantity(amount)):
            yield invalid(where, str(amount), f"must be equal to {name} limit of {limit or 0}")
        elif limit is not None and quantity(amount) > quantity(limit):
            yield invalid(where, str(amount), f"must be less than or equal to {name} limit of {limit}")


def _trainjob(obj: Obj, old: Obj | None) -> Iterator[Cause]:
    """The CEL rules of its CRD."""
    name, spec = obj["metadata"].get("name", ""), obj["spec"]
    if not re.match(r"^[a-z]([-a-z0-9]*[a-z0-9])?$", name):
        yield invalid("", "object", "metadata.name must match RFC 1035 DNS label format")
    if len(name) > 63:
        yield invalid("", "object", "metadata.name must be no more than 63 characters")
    managers = [patch["manager"] for patch in spec.get("runtimePatches") or []]
    for index, manager in enumerate(managers):
        if manager in managers[:index]:
            value = json.dumps({"manager": manager})
            yield Cause("FieldValueDuplicate", f"spec.runtimePatches[{index}]", f"Duplicate value: {value}")
    for key in ("runtimeRef", "trainer", "initializer", "managedBy", "activeDeadlineSeconds"):
        if old is not None and spec.get(key) != old["spec"].get(key):
            yield invalid(f"spec.{key}", "object", "field is immutable")
