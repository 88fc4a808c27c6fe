"""Faults that a scheduler tells: on the tests' private Slurm, and their Kubernetes stand-in. Root."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.k8s.cli import User
from tests.k8s.namespaces import StandInCluster
from tests.k8s.standin.kubeconfig import in_namespace
from tests.k8s.standin.standin import StandIn
from tests.slurm.cli import Login, stub_login
from tests.slurm.cluster.private_slurm import PrivateSlurm
from tests.slurm.test_watch import STUB


def _told(status: dict[str, Any]) -> str:
    """A status as `diagnose` reads it among the lines."""
    code = f" exit code {status['exit_code']}" if status["exit_code"] else ""
    return f"scheduler: {status['state']}{code}" + (f" ({status['reason']})" if status["reason"] else "") + "\n"


def _until(status: Callable[[], dict[str, Any]], arrived: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 180
    while not arrived(found := status()):
        if time.monotonic() > deadline:
            raise TimeoutError(str(found))
        time.sleep(0.5)
    return found


# --- Slurm ---


@contextmanager
def _slurm() -> Iterator[Login]:
    with tempfile.TemporaryDirectory(prefix="alp") as folder:
        Path(folder, "login").mkdir()
        with PrivateSlurm(Path(folder, "slurm"), accounting=False) as slurm:
            yield stub_login(slurm, Path(folder, "login"), STUB)


def _of_slurm(name: str, act: Callable[[Login, str], None], state: str, **job: Any) -> str:
    """Submit a job that sleeps, do something to it, and take log and state once it is there."""
    with _slurm() as login:
        login.write_job(name, launcher="direct", env={"ACT": "sleep"}, **job)
        handle = login.submit(name, "--write")
        act(login, handle)
        status = _until(lambda: login.status(handle), lambda found: found["state"] == state)
        log = Path(status["log"])
        text = log.read_text(encoding="utf-8") if log.is_file() else ""
        return text.replace(str(login.folder), "/scratch") + _told(status)


def _begun(login: Login, handle: str) -> None:
    folder = Path(login.status(handle)["run_dir"])
    deadline = time.monotonic() + 60
    while not all((folder / f"started.{task}").exists() for task in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.2)


def time_limit() -> str:
    return _of_slurm("slow", lambda *_: None, "TIMEOUT", time="00:01:00")


def cancelled() -> str:
    def act(login: Login, handle: str) -> None:
        _begun(login, handle)
        login.call("cancel", handle)

    return _of_slurm("ended", act, "CANCELLED")


def preempted() -> str:
    """Without requeue; a job of the partition of higher priority takes both nodes."""

    def act(login: Login, handle: str) -> None:
        _begun(login, handle)
        login.slurm.submit("#!/bin/bash\nsleep 60\n", "--partition=prio", "--nodes=2", "--exclusive")

    return _of_slurm("preempted", act, "PREEMPTED", slurm={"requeue": False})


def node_failed() -> str:
    def act(login: Login, handle: str) -> None:
        _begun(login, handle)
        login.slurm.set_node("n2", "DOWN")

    return _of_slurm("down", act, "NODE_FAIL", slurm={"requeue": False})


def no_room() -> str:
    """Other jobs hold the nodes."""
    with _slurm() as login:
        login.slurm.submit("#!/bin/bash\nsleep 60\n", "--nodes=2", "--exclusive")
        time.sleep(2)
        login.write_job("waits", launcher="direct", env={"ACT": "sleep"})
        handle = login.submit("waits", "--write")
        return _told(_until(lambda: login.status(handle), lambda found: bool(re.search("Res|Pri", found["reason"]))))


# --- Kubernetes ---


@contextmanager
def _kubernetes() -> Iterator[User]:
    from kubernetes import client, config

    with tempfile.TemporaryDirectory(prefix="alp") as folder, StandIn(Path(folder)) as stand_in:
        load: Any = config.new_client_from_config
        api: Any = client.CoreV1Api(load(str(stand_in.kubeconfig)))
        api.create_namespace({"metadata": {"name": "lab"}})
        home = Path(folder, "user")
        home.mkdir()
        kubeconfig = in_namespace(stand_in.kubeconfig, "lab", home)
        yield User(StandInCluster(stand_in, kubeconfig, "lab"), home)


def _of_pods(script: str, state: str, reason: str = "", **job: Any) -> str:
    """Submit a job whose pods run a script, and take its log and state."""
    k8s = job.pop("k8s", None)
    with _kubernetes() as user:
        handle = user.submit(user.write_script("train", script, k8s, **job))
        status = user.until(handle, state, reason=reason)
        log = user.call("logs", handle, code=None).stdout
        return log + _told(status)


def image() -> str:
    return _of_pods("true", "PENDING", "Pull", k8s={"image": "alignlaunch.invalid/nowhere:1"}, nnodes=1)


def no_room_pods() -> str:
    return _of_pods("true", "PENDING", "Insufficient", k8s={"cpu": 4000})


def quota() -> str:
    with _kubernetes() as user:
        user.cluster.limit(pods="0")
        handle = user.submit(user.write_script("train", "true", nnodes=1))
        return _told(user.until(handle, "PENDING", reason="FailedCreatePod"))


def host_oom() -> str:
    script = "echo step 1; python -c 'b = bytearray(400 << 20); import time; time.sleep(60)'"
    return _of_pods(script, "OUT_OF_MEMORY", k8s={"memory": "200Mi"}, nnodes=1)


def time_limit_pods() -> str:
    return _of_pods("echo step 1; sleep 300", "TIMEOUT", nnodes=1, time="00:00:05")


def evicted() -> str:
    """The kubelet wants room on its disk back."""
    with _kubernetes() as user:
        handle = user.submit(user.write_script("train", "echo step 1; sleep 300", nnodes=1))
        user.until(handle, "RUNNING")
        user.cluster.faults.evict("train-master-0")
        return _told(user.until(handle, "FAILED", "PENDING"))


def container_config() -> str:
    """A Secret that nobody has made."""
    secrets = {"HF_TOKEN": {"name": "hub"}}
    return _of_pods("true", "PENDING", "CreateContainer", k8s={"secrets": secrets}, secrets=["HF_TOKEN"], nnodes=1)


def pod_gone() -> str:
    """Somebody deletes a worker; nothing is made anew in its place."""
    with _kubernetes() as user:
        job = user.write_script("train", "echo step 1; sleep 300", {"restart_policy": "Never"})
        handle = user.submit(job)
        user.until(handle, "RUNNING")
        user.cluster.delete("Pod", "train-worker-0")
        return _told(user.until(handle, "FAILED"))


FAULTS: dict[str, Callable[[], str]] = {
    "time-limit": time_limit,
    "cancelled": cancelled,
    "preempted": preempted,
    "node-failed": node_failed,
    "no-room": no_room,
    "image": image,
    "no-room.pods": no_room_pods,
    "quota": quota,
    "host-oom": host_oom,
    "time-limit.pods": time_limit_pods,
    "evicted": evicted,
    "container-config": container_config,
    "pod-gone": pod_gone,
}
