"""A container's environment and command, from references and $(NAME) to what the process gets."""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.k8s.standin.api.storage import Store
from tests.k8s.standin.objects.quantities import quantity
from tests.k8s.standin.objects.resources import CONFIG_MAPS, SECRETS, Obj, Resource

VARIABLE = re.compile(r"\$(\$|\(([-._a-zA-Z0-9]+)\))")
ANNOTATED = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


class ConfigError(Exception):
    """The kubelet cannot make this container: CreateContainerConfigError."""


def environment(store: Store, pod: Obj, container: Obj, image_env: dict[str, str]) -> dict[str, str]:
    """Later entries win; each may use those before it."""
    hostname = pod["spec"].get("hostname") or pod["metadata"]["name"]
    env = {"HOME": "/home/alignlaunch", **image_env, "HOSTNAME": hostname}
    env |= {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for source in container.get("envFrom") or []:
        for resource, key in ((CONFIG_MAPS, "configMapRef"), (SECRETS, "secretRef")):
            if key in source:
                data = _data(store, resource, pod, source[key])
                env |= {source.get("prefix", "") + name: value for name, value in data.items()}
    for variable in container.get("env") or []:
        value = _value(store, pod, container, variable, env)
        if value is not None:
            env[variable["name"]] = value
    return env


def expanded(text: str, env: dict[str, str]) -> str:
    """$(NAME) replaced where NAME is known, $$ by one $."""
    return VARIABLE.sub(lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]), text)


def _value(store: Store, pod: Obj, container: Obj, variable: Obj, env: dict[str, str]) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expanded(variable.get("value") or "", env)
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        part, _, name = source["resourceFieldRef"]["resource"].partition(".")
        return str(int(quantity((container["resources"].get(part) or {}).get(name, 0))))
    resource, key = (CONFIG_MAPS, "configMapKeyRef") if "configMapKeyRef" in source else (SECRETS, "secretKeyRef")
    reference = source[key]
    data = _data(store, resource, pod, reference)
    if reference["key"] not in data:
        if reference.get("optional"):
            return None
        where = f"{pod['metadata']['namespace']}/{reference['name']}"
        raise ConfigError(f"couldn't find key {reference['key']} in {resource.kind} {where}")
    return data[reference["key"]]


def _data(store: Store, resource: Resource, pod: Obj, reference: Obj) -> dict[str, str]:
    found = store.get(resource, pod["metadata"]["namespace"], reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{resource.kind.lower()} "{reference["name"]}" not found')
    data: dict[str, str] = found.get("data") or {}
    return data if resource is CONFIG_MAPS else {key: base64.b64decode(value).decode() for key, value in data.items()}


def _field(pod: Obj, path: str) -> str:
    if match := ANNOTATED.match(path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return str(value or "")
