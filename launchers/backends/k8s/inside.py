"""A command inside the pod of a node, by kubectl: it has the terminal's part of the API, which the client has not."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence

from ...errors import UsageError
from .client import Api, Object
from .status import container_of, index_of

_RIGHT = '{apiGroups: [""], resources: [pods/exec], verbs: [create, get]}'


def command(api: Api, pods: list[Object], node: int, words: Sequence[str], *, terminal: bool) -> list[str]:
    """kubectl's command line. Raises UsageError without kubectl, the right, or a running pod of that node."""
    running = [pod for pod in pods if index_of(pod) == node and pod.get("status", {}).get("phase") == "Running"]
    if not running:
        raise UsageError(f"node {node}: no pod of it runs\n    remedy: see `alignlaunch status`, or another --node")
    # A pod of its own cluster has no context: kubectl takes the service account there, as we do.
    context = [] if api.context == "in-cluster" else [f"--context={api.context}"]
    kubectl = ["kubectl", *context, f"--namespace={api.namespace}"]
    into = ["-it" if terminal else "-i", running[0]["metadata"]["name"], f"--container={container_of(running[0])}"]
    line = [*kubectl, "exec", *into, "--", *words]
    if not shutil.which("kubectl"):
        raise UsageError(f"kubectl: not installed here; a shell needs it\n    remedy: where it is: {shlex.join(line)}")
    # Which verb it is asked for depends on the version of kubectl and of the server.
    if not any(api.may(verb, "pods", "exec") for verb in ("create", "get")):
        raise UsageError(
            f"no right to enter pods (pods/exec) in namespace {api.namespace} of context {api.context}\n"
            f"    remedy: it is not in docs/role.yaml; an administrator may add {_RIGHT}"
        )
    return line
