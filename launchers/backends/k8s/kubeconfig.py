"""The connection to a cluster: by a context of the kubeconfig, or in a pod to the pod's own cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...errors import UsageError

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(context: str | None) -> tuple[str, str, Any]:
    """(name of the context, its namespace, client). context: None for the current one, or the pod's own cluster.

    Raises UsageError if there is no such context, or its credentials cannot be read.
    """
    from kubernetes import client
    from kubernetes import config as module

    config: Any = module
    try:
        namespaces, current = _contexts()
    except _bad_kubeconfig() as error:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            return _in_cluster()
        raise UsageError(
            f"no kubeconfig that can be read: {error}\n    remedy: log in to the cluster, or set KUBECONFIG"
        ) from error
    name = context or current
    if name not in namespaces:
        what = f"context {name}: the kubeconfig has no such context" if name else "no context is chosen"
        raise UsageError(f"{what}\n    remedy: --context with one of {', '.join(namespaces)}")
    settings = client.Configuration()
    settings.retries = False  # our callers retry, and report it
    try:
        config.load_kube_config(context=name, client_configuration=settings)
    except _bad_kubeconfig() as error:
        raise UsageError(f"context {name}: {error}\n    remedy: log in to the cluster again") from error
    return name, namespaces[name], client.ApiClient(settings)


def _contexts() -> tuple[dict[str, str], str]:
    """(context → namespace, name of the current context or "").

    Not by the client's list_kube_config_contexts, which fails without a current context; kubectl accepts that.
    """
    from kubernetes.config import kube_config

    module: Any = kube_config
    merged = module.KubeConfigMerger(module.KUBE_CONFIG_DEFAULT_LOCATION).config
    if merged is None or not merged["contexts"].value:
        raise module.ConfigException("it has no context")
    found = {one["name"]: one["context"].safe_get("namespace") or "default" for one in merged["contexts"].value}
    return found, merged.safe_get("current-context") or ""


def _in_cluster() -> tuple[str, str, Any]:
    """As `connect`, for the cluster of the pod that this process runs in."""
    from kubernetes import client
    from kubernetes import config as module

    config: Any = module
    try:
        config.load_incluster_config()
        return "in-cluster", _NAMESPACE.read_text(encoding="utf-8").strip(), client.ApiClient()
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"no kubeconfig, and no service account in this pod: {error}\n"
            "    remedy: set KUBECONFIG, or give the pod a service account (automountServiceAccountToken)"
        ) from error


def _bad_kubeconfig() -> tuple[type[Exception], ...]:
    """What the client raises for a bad kubeconfig: it does not check the types of what it reads."""
    from kubernetes.config import ConfigException
    from yaml import YAMLError

    return ConfigException, YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError
