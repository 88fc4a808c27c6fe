"""Explains errors of the API server to the user: the key of the job file that is at fault, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import SchedulerError
from .client import Refused

#: Pattern of a field in the manifest → key of the job file. The first match counts.
_KEYS = [
    (r"nvidia\.com|\.limits|\.requests|resources", "nproc_per_node, k8s.cpu, k8s.memory or k8s.resources"),
    (r"replicas|numNodes|minReplicas|maxReplicas", "nnodes"),
    (r"nprocPerNode|numProcPerNode", "nproc_per_node"),
    (r"[vV]olume", "k8s.volumes"),
    (r"restartPolicy", "k8s.restart_policy"),
    (r"backoffLimit", "k8s.backoff_limit"),
    (r"activeDeadlineSeconds", "time"),
    (r"imagePullSecrets", "k8s.image_pull_secrets"),
    (r"imagePullPolicy", "k8s.image_pull_policy"),
    (r"\bimage", "k8s.image"),
    (r"\benv\b", "env or secrets"),
    (r"nodeSelector", "k8s.node_selector"),
    (r"tolerations", "k8s.tolerations"),
    (r"securityContext", "k8s.security_context"),
    (r"serviceAccount", "k8s.service_account"),
    (r"priorityClass", "k8s.priority_class"),
    (r"labels", "k8s.labels"),
    (r"annotations", "k8s.annotations"),
    (r"runtimeRef|untime", "k8s.runtime"),
    (r"metadata\.name\b", "name"),
]
_PATCHES = "k8s.patch or k8s.pod_patch"
_TRY_AGAIN = "try again; `kubectl get --raw /readyz` tells whether the API server is well"
#: (HTTP codes, none for any; pattern of the message; remedy). The first match counts.
_REMEDIES = [
    ((401,), "", "the cluster does not know you (any more): log in again"),
    (
        (),
        r"failed calling webhook|no endpoints available",
        "the training operator is down, and it must look at every job first: tell the cluster's administrator",
    ),
    (
        (),
        r"namespaces? \S+ not found|being terminated",
        "`k8s.namespace`, --namespace or the context names {namespace}: create it, or name another",
    ),
    ((404,), "", "this cluster knows no {kind}: install the training operator, or set `k8s.kind` to what it knows"),
    (
        (),
        r"exceeded quota",
        "the quota of {namespace} is used up: wait, ask for less (nnodes, nproc_per_node, k8s.cpu, k8s.memory), or "
        "have it raised",
    ),
    ((400, 403, 422), r"admission webhook", "correct {keys} in the job file"),
    ((403,), "", "{right}"),
    ((400,), r"unknown field", _PATCHES + " has a field that {kind} does not know: correct it"),
    ((400, 422), "", "correct {keys} in the job file"),
    ((), "", _TRY_AGAIN),
]


def submission_error(refused: Refused, kind: str, namespace: str) -> SchedulerError:
    """The error for a refused submission: the server's message and a remedy."""
    places = [cause.get("field", "") for cause in refused.causes] or [refused.message]
    template = next(
        remedy
        for codes, words, remedy in _REMEDIES
        if (not codes or refused.code in codes) and re.search(words, refused.message)
    )
    keys = " and ".join(dict.fromkeys(map(key_of, places)))
    remedy = template.format(namespace=namespace, kind=kind, keys=keys, right=_right(refused, namespace))
    return SchedulerError(f"{kind}: {refused.message}\n    remedy: {remedy}\n    nothing was submitted")


@contextmanager
def while_submitting(kind: str, namespace: str) -> Iterator[None]:
    """Turn Refused, raised by a submission, into the SchedulerError of `submission_error`."""
    try:
        yield
    except Refused as refused:
        raise submission_error(refused, kind, namespace) from refused


@contextmanager
def while_querying(context: str, namespace: str) -> Iterator[None]:
    """Turn Refused, raised by a query, into the SchedulerError of `query_error`."""
    try:
        yield
    except Refused as refused:
        raise query_error(refused, context, namespace) from refused


def query_error(refused: Refused, context: str, namespace: str) -> SchedulerError:
    """The error for a refused query: the server's message and a remedy."""
    if refused.code == 401:
        remedy = "the cluster does not know you (any more): log in again"
    elif refused.code == 403:
        remedy = _right(refused, namespace)
    else:
        remedy = _TRY_AGAIN
    return SchedulerError(f"context {context}: {refused.message}\n    remedy: {remedy}")


def _right(refused: Refused, namespace: str) -> str:
    """The remedy for a missing permission: which rights to ask the administrator for."""
    remedy = f"ask for the rights of docs/role.yaml in {namespace}"
    if missing := re.search(r'cannot (\S+) resource "(\S+)" in API group "(\S*)"', refused.message):
        verb, resource, group = missing.groups()
        what = f"{resource}.{group}" if group else resource
        remedy += f"; `kubectl auth can-i {verb} {what} -n {namespace}` must say yes"
    return remedy


def key_of(place: str) -> str:
    """The key of the job file that sets a field of the manifest."""
    return next((key for pattern, key in _KEYS if re.search(pattern, place)), _PATCHES)
