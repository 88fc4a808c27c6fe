"""The scheduler: resources, node selectors, required node affinity, taints and claims; no affinity between pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.api.storage import Change, Key, key_of
from tests.k8s.standin.objects.quantities import amounts, total
from tests.k8s.standin.objects.resources import CLAIMS, NODES, PODS, Obj

from .controller import Controller
from .events import record

SCHEDULER = "default-scheduler"
ENDED = ("Succeeded", "Failed")


class Scheduler(Controller):
    """Binds pods to nodes, or says on the pod why it cannot."""

    name = SCHEDULER

    def concerned(self, change: Change) -> Iterable[Key]:
        if change.resource is PODS and change.type == "ADDED":
            return [key_of(change.obj)]
        ended = change.type == "DELETED" or (change.resource is PODS and change.obj["status"]["phase"] in ENDED)
        freed = change.resource is PODS and ended and change.obj["spec"].get("nodeName")
        return self.everything() if freed or change.resource in (NODES, CLAIMS) else []

    def everything(self) -> Iterable[Key]:
        return [key_of(pod) for pod in self.store.all(PODS) if not pod["spec"].get("nodeName")]

    def reconcile(self, namespace: str, name: str) -> float | None:
        pod = self.store.get(PODS, namespace, name)
        if pod is None or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
            return None
        if pod["spec"]["schedulerName"] != SCHEDULER or pod["spec"].get("schedulingGates"):
            return None  # another scheduler's business
        nodes = self.store.all(NODES)
        refusals = {node["metadata"]["name"]: self._refusals(pod, node) for node in nodes}
        missing = self._missing_claim(pod)
        fitting = [node for node in nodes if not refusals[node["metadata"]["name"]] and not missing]
        if fitting:
            self._bind(pod, min(fitting, key=self._load))
        else:
            self._refuse(pod, _message(len(nodes), missing, refusals.values()))
        return None

    def _bind(self, pod: Obj, node: Obj) -> None:
        namespace, name = key_of(pod)
        node_name = node["metadata"]["name"]
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node_name}}
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now(), "lastProbeTime": None}
        self.store.put(PODS, bound | {"status": {**pod["status"], "conditions": [condition]}})
        message = f"Successfully assigned {namespace}/{name} to {node_name}"
        record(self.registry, pod, "Scheduled", message, component=SCHEDULER)

    def _refuse(self, pod: Obj, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        current = (pod["status"].get("conditions") or [{}])[0]
        if current.get("message") != message:
            since = current.get("lastTransitionTime") or now()
            conditions = [{**condition, "lastTransitionTime": since, "lastProbeTime": None}]
            self.store.put(PODS, {**pod, "status": {**pod["status"], "conditions": conditions}})
            record(self.registry, pod, "FailedScheduling", message, component=SCHEDULER, warning=True)

    def _missing_claim(self, pod: Obj) -> str:
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and self.store.get(CLAIMS, pod["metadata"]["namespace"], claim) is None:
                return f'persistentvolumeclaim "{claim}" not found'
        return ""

    def _refusals(self, pod: Obj, node: Obj) -> list[str]:
        """Why this pod cannot run on this node."""
        spec, labels = pod["spec"], node["metadata"].get("labels") or {}
        if any(not _tolerated(taint, spec) for taint in (node.get("spec") or {}).get("taints") or []):
            return ["node(s) had untolerated taint(s)"]
        selector = spec.get("nodeSelector") or {}
        if any(labels.get(key) != value for key, value in selector.items()) or not _affine(spec, node):
            return ["node(s) didn't match Pod's node affinity/selector"]
        free = self._free(node)
        asked = sorted(requests(pod).items())
        return [f"Insufficient {name}" for name, amount in asked if amount > free.get(name, 0)]

    def _free(self, node: Obj) -> dict[str, Decimal]:
        pods = [pod for pod in self.store.all(PODS) if pod["spec"].get("nodeName") == node["metadata"]["name"]]
        taken = total(requests(pod) for pod in pods if pod["status"]["phase"] not in ENDED)
        return {name: amount - taken.get(name, 0) for name, amount in amounts(node["status"]["allocatable"]).items()}

    def _load(self, node: Obj) -> tuple[int, str]:
        name = node["metadata"]["name"]
        running = [pod for pod in self.store.all(PODS) if pod["spec"].get("nodeName") == name]
        return sum(pod["status"]["phase"] not in ENDED for pod in running), name


def requests(pod: Obj) -> dict[str, Decimal]:
    """What a pod asks of a node: the sum of its containers, or more if an init container asks for more."""
    asked = total(amounts(container["resources"].get("requests")) for container in pod["spec"]["containers"])
    for container in pod["spec"].get("initContainers") or []:
        for name, amount in amounts(container["resources"].get("requests")).items():
            asked[name] = max(amount, asked.get(name, amount))
    return asked


def _tolerated(taint: Obj, spec: Obj) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    return any(
        toleration.get("effect") in (None, "", taint["effect"])
        and toleration.get("key") in (None, "", taint["key"])
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in spec.get("tolerations") or []
    )


def _affine(spec: Obj, node: Obj) -> bool:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    # A term that asks for nothing matches no node.
    return required is None or any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_matches(one, labels) for one in term.get("matchExpressions") or [])
        and all(_matches(one, fields) for one in term.get("matchFields") or [])
        for term in required["nodeSelectorTerms"]
    )


def _matches(expression: Obj, labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    operators = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return operators[str(expression["operator"])]


def _message(nodes: int, missing: str, refusals: Iterable[list[str]]) -> str:
    counts = Counter(reason for reasons in refusals for reason in reasons)
    why = missing or ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    available = f"0/{nodes} nodes are available"
    if not nodes:
        return "no nodes available to schedule pods"
    victims = f"{nodes} No preemption victims found for incoming pod" if counts else "preemption is not helpful"
    return f"{available}: {why}. preemption: {available}: {victims}."
