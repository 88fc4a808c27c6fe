"""What tests see of a cluster, the stand-in or a real one: a namespace, its kubeconfig, an image, and faults.

What a real cluster cannot be made to do is behind `Cluster.faults`, which skips the test there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes import client, config
from kubernetes.client import ApiException

from .standin.faults import ClusterFaults
from .standin.kubeconfig import with_token
from .standin.objects.resources import CRDS, LOCAL_QUEUES, RESOURCES, Obj, Resource, resource_of

Found = TypeVar("Found")
ACCOUNT = "tester"
WAIT_S = 120.0


class Cluster:
    """One namespace of a cluster. `kubeconfig` names it in its current context."""

    #: In no registry: a pod with it never starts.
    unpullable_image = "alignlaunch.invalid/nowhere:1"

    def __init__(self, kubeconfig: Path, namespace: str, image: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.image = image
        loader: Any = config
        self.context: str = loader.list_kube_config_contexts(str(kubeconfig))[1]["name"]
        self.api = loader.new_client_from_config(str(kubeconfig))
        # Any: half of the client's models are optional, and a test that meets None fails anyway.
        self.core: Any = client.CoreV1Api(self.api)
        self.custom: Any = client.CustomObjectsApi(self.api)

    # -- what it can do -----------------------------------------------------------------------------------------------

    @property
    def faults(self) -> ClusterFaults:
        """Ways to break it. Skips the test where that cannot be done."""
        pytest.skip("this fault cannot be provoked on a real cluster")

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[str]]:
        """Verb and resource (`get pods/log`) of each request about the namespace while the context lasts.

        Skips the test where the API server does not tell.
        """
        pytest.skip("a real API server does not tell what it was asked")
        yield []

    def may(self, verb: str, resource: str, group: str = "") -> bool:
        """What the server says of one's own rights in the namespace."""
        resource, _, subresource = resource.partition("/")
        about = {"verb": verb, "resource": resource, "subresource": subresource, "group": group}
        review: Any = {"spec": {"resourceAttributes": {"namespace": self.namespace, **about}}}
        answer: Any = client.AuthorizationV1Api(self.api).create_self_subject_access_review(review)
        return bool(answer.status.allowed)

    def has(self, feature: str) -> bool:
        """Whether the cluster serves a kind (`PyTorchJob`, `TrainJob`, `Workload`), or has `gpu` nodes."""
        if feature == "gpu":
            return any("nvidia.com/gpu" in (node.status.allocatable or {}) for node in self.core.list_node().items)
        listed = self.request("GET", CRDS)["items"]
        return any(crd["spec"]["names"]["kind"] == feature for crd in listed)

    def need(self, feature: str) -> None:
        """Skip the test where the cluster lacks a feature."""
        if not self.has(feature):
            pytest.skip(f"this cluster has no {feature}")

    # -- using it -----------------------------------------------------------------------------------------------------

    def kubectl(self, *argv: str, stdin: str | None = None, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """kubectl in this namespace; its exit code must be `code` unless that is None. Skips where it is missing."""
        if shutil.which("kubectl") is None:
            pytest.skip("kubectl is not installed")
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert code is None or done.returncode == code, f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def request(self, method: str, resource: Resource, name: str = "", body: Obj | None = None) -> Obj:
        """One call of the API, in this namespace where the resource has one; ApiException where it is refused."""
        where = f"/namespaces/{self.namespace}" if resource.namespaced else ""
        path = f"{resource.prefix}{where}/{resource.plural}" + (f"/{name}" if name else "")
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        call = self.api.param_serialize(method, path, header_params=headers, body=body, auth_settings=["BearerToken"])
        response = self.api.call_api(*call)
        response.read()
        answer: Obj = self.api.response_deserialize(response, dict.fromkeys(("200", "201", "202"), "object")).data
        return answer

    def apply(self, *objects: Obj) -> None:
        """Create objects, or merge them into those of their names."""
        for obj in objects:
            resource = resource_of(obj["kind"], obj["apiVersion"])
            assert resource is not None
            try:
                self.request("POST", resource, body=obj)
            except ApiException as refusal:
                if refusal.status != 409:
                    raise
                self.request("PATCH", resource, obj["metadata"]["name"], obj)

    def create_all(self, objects: Iterable[Obj]) -> None:
        """Create many, several at a time."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.apply, objects))

    def delete(self, kind: str, name: str) -> None:
        self.request("DELETE", _resource(kind), name)

    def job(self, name: str, plural: str = "pytorchjobs") -> Obj:
        group, version = ("kubeflow.org", "v1") if plural == "pytorchjobs" else ("trainer.kubeflow.org", "v1alpha1")
        job: Obj = self.custom.get_namespaced_custom_object(group, version, self.namespace, plural, name)
        return job

    def conditions(self, name: str, plural: str = "pytorchjobs") -> dict[str, str]:
        """Status by type of a job's conditions, in their order."""
        listed = (self.job(name, plural).get("status") or {}).get("conditions") or []
        return {one["type"]: one["status"] for one in listed}

    def wait_condition(self, name: str, *wanted: str, plural: str = "pytorchjobs", timeout: float = WAIT_S) -> str:
        """Until one of these conditions is True; returns which."""
        found = self.wait(
            lambda: next(
                (c for c, value in self.conditions(name, plural).items() if c in wanted and value == "True"), ""
            ),
            lambda: f"{name}: {self.conditions(name, plural)}",
            timeout,
        )
        return str(found)

    def pods(self) -> dict[str, Obj]:
        """All pods of the namespace by name, as JSON."""
        listed = self.core.list_namespaced_pod(self.namespace, _preload_content=False).data
        return {pod["metadata"]["name"]: pod for pod in json.loads(listed)["items"]}

    def config_maps(self, selector: str = "") -> set[str]:
        """Names of those in the namespace; clusters publish some of their own there."""
        found = self.core.list_namespaced_config_map(self.namespace, label_selector=selector).items
        return {one.metadata.name for one in found}

    def owners(self, kind: str, name: str) -> list[tuple[str, str]]:
        """Kind and name of what an object goes with."""
        found = self.request("GET", _resource(kind), name)["metadata"]
        return [(owner["kind"], owner["name"]) for owner in found.get("ownerReferences") or []]

    def events(self) -> list[tuple[str, str, str]]:
        """Object, reason and message of each event."""
        found = self.core.list_namespaced_event(self.namespace).items
        return [(event.involved_object.name, event.reason, event.message or "") for event in found]

    def wait_event(self, name: str, reason: str, timeout: float = WAIT_S) -> str:
        """Until the object has such an event; returns its message."""
        found = self.wait(
            lambda: [message for who, why, message in self.events() if (who, why) == (name, reason)],
            lambda: f"no {reason} of {name}: {self.events()}",
            timeout,
        )
        return str(found[0])

    def log(self, pod: str, **options: Any) -> str:
        return str(self.core.read_namespaced_pod_log(pod, self.namespace, **options))

    def wait(
        self, find: Callable[[], Found], why: Callable[[], str] = lambda: "timed out", timeout: float = WAIT_S
    ) -> Found:
        """Until `find` returns something true, which is returned; fails with `why` not."""
        deadline = time.monotonic() + timeout
        while not (found := find()):
            assert time.monotonic() < deadline, f"after {timeout:.0f} s: {why()}"
            time.sleep(0.1)
        return found

    # -- what a namespace may hold ------------------------------------------------------------------------------------

    def as_user_with(self, *rules: Obj, name: str = ACCOUNT) -> Path:
        """A kubeconfig of a service account that may do in the namespace what these RBAC rules say, and no more."""
        role = {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        metadata, rbac = {"name": name, "namespace": self.namespace}, "rbac.authorization.k8s.io/v1"
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": list(rules)},
            {"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [subject]},
        )
        token = self.core.create_namespaced_service_account_token(name, self.namespace, {"spec": {}})
        return with_token(self.kubeconfig, token.status.token)

    def limit(self, **hard: str) -> None:
        """A ResourceQuota; returns when it counts. Keys with dots and slashes go in by `**{...}`."""
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "limit"}, "spec": {"hard": hard}}
        self.apply(quota)
        self.wait(lambda: self.core.read_namespaced_resource_quota("limit", self.namespace).status.hard)

    def admit(self, queue: str) -> None:
        """Make a LocalQueue, so that Kueue takes what waits in it. A real one needs a ClusterQueue `default`."""
        metadata, spec = {"name": queue}, {"clusterQueue": "default"}
        self.apply({"apiVersion": LOCAL_QUEUES.api_version, "kind": "LocalQueue", "metadata": metadata, "spec": spec})

    def fill_claim(self, name: str, source: Path) -> None:
        """Make a PersistentVolumeClaim that holds a copy of a folder."""
        self._make_claim(name)
        with self._claim_pod(name) as pod:
            self.kubectl("cp", f"{source}/.", f"{self.namespace}/{pod}:/claim")
            self.kubectl("exec", pod, "--", "chmod", "-R", "a+rwX", "/claim")

    def read_claim(self, name: str, path: str) -> bytes:
        """A file of a claim."""
        with self._claim_pod(name) as pod:
            return self.kubectl("exec", pod, "--", "cat", f"/claim/{path}").stdout.encode()

    def _make_claim(self, name: str) -> None:
        spec: Obj = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        if not self._has_default_storage():  # then a folder of the cluster's one node is the claim
            spec["storageClassName"] = ""
            volume = {
                "accessModes": spec["accessModes"],
                "capacity": spec["resources"]["requests"],
                "hostPath": {"path": f"/tmp/{self.namespace}-{name}", "type": "DirectoryOrCreate"},  # noqa: S108
                "claimRef": {"namespace": self.namespace, "name": name},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": "",
            }
            metadata = {"name": f"{self.namespace}-{name}"}
            self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": volume})
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})

    def _has_default_storage(self) -> bool:
        classes = json.loads(self.kubectl("get", "storageclasses", "-o", "json").stdout)["items"]
        default = "storageclass.kubernetes.io/is-default-class"
        return any((one["metadata"].get("annotations") or {}).get(default) == "true" for one in classes)

    @contextlib.contextmanager
    def _claim_pod(self, claim: str) -> Iterator[str]:
        """A pod with the claim at /claim, while the context lasts."""
        name = f"claim-{claim}"
        volume = {"name": "claim", "persistentVolumeClaim": {"claimName": claim}}
        mounts = [{"name": "claim", "mountPath": "/claim"}]
        container: Obj = {"name": "shell", "image": self.image, "command": ["sleep", "600"], "volumeMounts": mounts}
        container |= {"securityContext": {"runAsUser": 0}}  # the claim may be root's
        spec = {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        try:
            self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={WAIT_S:.0f}s")
            yield name
        finally:
            self.delete("Pod", name)


def _resource(kind: str) -> Resource:
    return next(resource for resource in RESOURCES if resource.kind.lower() == kind.lower())
