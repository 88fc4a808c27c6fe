"""Submission: label the committed manifests with the run's id, have the server validate them, then create them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from alignlaunch.train.config import PREFLIGHT_ONLY, TOKEN

from ...errors import LostJobError, SchedulerError
from ..base import Say
from . import refusals
from .client import CUSTOM, Api, Object, Refused, UnreachableError

#: File in the run's folder: the manifests as they were submitted.
STORED = "stored.json"
#: With this variable a process recognises the checkpoints of its own run.
RUN_ID = "ALIGNLAUNCH_RUN_ID"
#: Label of every object of a run: the id of its run folder.
RUN_LABEL = "alignlaunch/run"
#: The operators append to it (`-worker-9999`, `-node-0-9999-abcde`), and a pod's name has at most 63 characters.
_LONGEST_NAME = 45
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
#: Seconds between retries of a request whose answer was lost.
_PAUSES = (1, 2, 4, 8)


def submit(
    api: Api, manifests: list[Object], run_id: str, say: Say, without: Sequence[str]
) -> tuple[str, list[Object]]:
    """Create the objects of the manifests: all or none. Returns the job's name and the manifests as created.

    without: nodes that get none of the pods. The objects get new names if one of theirs is taken. Raises
    SchedulerError with the server's message and a remedy; LostJobError if an answer was lost, so that the job may be
    running.
    """
    manifests = stamped(api, manifests, run_id, without)
    (job,) = (manifest for manifest in manifests if manifest["kind"] in CUSTOM)
    others = [manifest for manifest in manifests if manifest is not job]
    name: str = job["metadata"]["name"]
    check(api, manifests)
    created: list[Object] = []
    try:
        for manifest in [*others, job]:
            created.append(_create(api, manifest, run_id))  # noqa: PERF401 - those before a failure are removed
    except LostJobError:
        raise
    except BaseException:
        for manifest in reversed(created):
            _remove(api, manifest, say)
        raise
    for manifest in others:
        _own(api, manifest, created[-1], say)
    return name, manifests


def make_preflight_only(manifests: list[Object]) -> None:
    """Let the pods end before they load the model."""
    for variables in _environments(manifests):
        variables.append({"name": PREFLIGHT_ONLY, "value": "1"})


def suspend(manifests: list[Object]) -> None:
    """Have the job wait, without pods, until it is released."""
    for manifest in manifests:
        if manifest["kind"] in CUSTOM:
            for key, value in suspension(manifest["kind"], on=True).items():
                manifest["spec"][key] = {**manifest["spec"].get(key, {}), **value} if isinstance(value, dict) else value


def suspension(kind: str, *, on: bool) -> Object:
    """The part of a job's spec that says whether it is suspended."""
    return {"suspend": on} if kind == "TrainJob" else {"runPolicy": {"suspend": on}}


def _environments(node: Any) -> Iterator[list[Object]]:
    """Every `env` list that has the variable RUN_ID, wherever the pods' templates are."""
    if isinstance(node, list) and any(isinstance(item, dict) and item.get("name") == RUN_ID for item in node):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _environments(item)


def check(api: Api, manifests: list[Object]) -> None:
    """Let the server validate every object in a dry run. Raises SchedulerError if it refuses one."""
    for manifest in manifests:
        with refusals.while_submitting(manifest["kind"], api.namespace):
            api.create(manifest, dry_run=True)


def stamped(api: Api, manifests: list[Object], run_id: str, without: Sequence[str]) -> list[Object]:
    """Copies of the manifests for this run: with its label and id, in the API's namespace, with names that are free.

    without: nodes to leave out."""
    found = deepcopy(manifests)
    names: dict[str, str] = {}
    if any(_is_taken(api, manifest) for manifest in found):
        names = {name: _suffixed(name, run_id) for name in (manifest["metadata"]["name"] for manifest in found)}
    for manifest in found:
        metadata = manifest["metadata"]
        metadata["namespace"] = api.namespace
        metadata["name"] = names.get(metadata["name"], metadata["name"])
        metadata.setdefault("labels", {})[RUN_LABEL] = run_id
        _update_pod_templates(manifest.get("spec"), names, run_id, without)
    token = secrets.token_hex(16)  # not in git, as the manifests are
    for variables in _environments(found):
        variables.append({"name": TOKEN, "value": token})
    return found


def _update_pod_templates(node: Any, names: dict[str, str], run_id: str, without: Sequence[str]) -> None:
    """In every pod template, set the run's label, the ConfigMap's new name, the variable with the run's id, and which
    nodes to leave out."""
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(item, dict) and item.get("name") == RUN_ID:
            item["value"] = run_id
        if isinstance(item, dict) and "containers" in (item.get("spec") or {}):  # a pod's template
            item.setdefault("metadata", {}).setdefault("labels", {})[RUN_LABEL] = run_id
            _leave_out(item["spec"], without)
        if isinstance(item, dict) and isinstance(item.get("configMap"), dict):
            item["configMap"]["name"] = names.get(item["configMap"].get("name"), item["configMap"].get("name"))
        _update_pod_templates(item, names, run_id, without)


def _leave_out(pod: Object, nodes: Sequence[str]) -> None:
    """Have the scheduler put a pod on none of these nodes, besides what its spec asks already."""
    if not nodes:
        return
    required = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {}).setdefault(_REQUIRED, {})
    # A node must match one of the terms, so each gets the condition. A requirement about a name takes one value.
    for term in required.setdefault("nodeSelectorTerms", [{}]):
        fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
        term.setdefault("matchFields", []).extend(fields)


def _suffixed(name: str, run_id: str) -> str:
    suffix = run_id.rpartition("-")[2]
    return f"{name[: _LONGEST_NAME - len(suffix) - 1].rstrip('-')}-{suffix}"


def _is_taken(api: Api, manifest: Object) -> bool:
    with refusals.while_submitting(manifest["kind"], api.namespace):
        return api.read(manifest["kind"], manifest["metadata"]["name"]) is not None


def _create(api: Api, manifest: Object, run_id: str) -> Object:
    """Create one object. If an answer is lost, retry, unless the object exists with this run's label by then."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    lost: UnreachableError | None = None
    for pause in (0, *_PAUSES):
        time.sleep(pause)
        try:
            with refusals.while_submitting(kind, api.namespace):
                if lost and (found := api.read(kind, name)) and _run_of(found) == run_id:
                    return found
                return api.create(manifest)
        except UnreachableError as error:
            lost = error
    words = str(lost).splitlines()[0]
    raise LostJobError(
        f"{words}; {kind} {name} may or may not be there\n"
        f"    remedy: `kubectl get {kind.lower()} {name} -n {api.namespace}`"
    )


def _run_of(found: Object) -> str:
    return str((found["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def _own(api: Api, manifest: Object, job: Object, say: Say) -> None:
    """Make the job the owner of the object, so that both are deleted together."""
    owner = {key: job[key] for key in ("apiVersion", "kind")} | {key: job["metadata"][key] for key in ("name", "uid")}
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    try:
        api.patch(kind, name, {"metadata": {"ownerReferences": [owner | {"blockOwnerDeletion": False}]}})
    except (Refused, SchedulerError) as error:
        words = str(error).splitlines()[0]
        say(f"warning: {kind} {name} will outlive its job ({words}); later: kubectl delete {kind.lower()} {name}")


def _remove(api: Api, manifest: Object, say: Say) -> None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    try:
        api.delete(kind, name)
    except (Refused, SchedulerError) as error:
        words = str(error).splitlines()[0]
        say(f"{kind} {name} could not be removed ({words}); later: kubectl delete {kind.lower()} {name}")
