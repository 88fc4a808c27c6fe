"""`alignlaunch shell`: the kubectl that it becomes, and a real one in the pod of a node."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .cli import User
from .cluster import Cluster
from .test_role import RULES, TALKS

# Says what it was called with, instead of going into a pod.
KUBECTL = """#!/bin/bash
printf '%s\\n' "$@"
exit 7
"""


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


def test_kubectl_goes_into_the_pod_of_a_rank(user: User) -> None:
    (user.folder / "bin").mkdir()
    (user.folder / "bin/kubectl").write_text(KUBECTL)
    (user.folder / "bin/kubectl").chmod(0o755)
    usual = user.env["PATH"]
    user.env["PATH"] = f"{user.folder / 'bin'}:{usual}"
    run = user.submit(user.write_script("inside", TALKS, nproc_per_node=2))
    user.until(run, "RUNNING")
    context = run.removeprefix("k8s://").partition("/")[0]
    place = [f"--context={context}", f"--namespace={user.cluster.namespace}", "exec", "-i"]
    for option, pod in (("--node 0", "master"), ("--rank 1", "master"), ("--rank 2", "worker")):
        said = user.call("shell", run, *option.split(), "--", "echo", "a  b", code=7).stdout.splitlines()
        assert said == [*place, f"inside-{pod}-0", "--container=pytorch", "--", "echo", "a  b"]
    assert user.call("shell", run, code=7).stdout.splitlines()[-2:] == ["--", "bash"]
    user.env["PATH"] = str(user.folder / "empty")
    refusal = user.call("shell", run, code=2).stderr
    assert "kubectl: not installed here" in refusal
    assert f"kubectl --context={context} --namespace={user.cluster.namespace} exec -i inside-master-0" in refusal
    user.env |= {"PATH": f"{user.folder / 'bin'}:{usual}", "KUBECONFIG": str(user.cluster.as_user_with(*RULES))}
    refusal = user.call("shell", run, code=2).stderr
    assert "no right to enter pods (pods/exec)" in refusal
    assert "resources: [pods/exec]" in refusal
    user.env["KUBECONFIG"] = str(user.cluster.kubeconfig)
    user.call("cancel", run)
    assert "CANCELLED" in user.call("shell", run, code=2).stderr


def test_a_real_kubectl_is_in_the_pod(user: User) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    run = user.submit(user.write_script("within", TALKS, nproc_per_node=2, env={"ACT": "it's"}))
    user.until(run, "RUNNING")
    where = ("--", "sh", "-c", 'echo "$(hostname) $ACT $0"; echo aside >&2; exit 7', "a  b")
    for option, pod in (("--rank 1", "master"), ("--rank 2", "worker")):
        said = user.call("shell", run, *option.split(), *where, code=7)
        assert said.stdout == f"within-{pod}-0 it's a  b\n"
        assert said.stderr.startswith("aside\n")
    assert user.call("shell", run, "--", "true").stdout == ""
    here = user.call("shell", run, "--", "sh", "-c", "readlink /proc/1/cwd; pwd").stdout.splitlines()
    assert here == ["/data"] * 2, "beside the training"
    typed = user.in_terminal("shell", run, "--node", "1", typed=b"tty; hostname; exit 3\n", code=3)
    assert "/dev/pts/" in typed
    assert "within-worker-0" in typed
    assert user.status(run)["state"] == "RUNNING", "the run goes on"
    right = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}
    user.env["KUBECONFIG"] = str(user.cluster.as_user_with(*RULES, right))
    assert user.call("shell", run, "--", "hostname").stdout == "within-master-0\n", "as docs/kubernetes.md says"
    user.call("cancel", run)
