"""`alignlaunch shell`: the kubectl that it becomes. The stand-in has no exec: nothing runs in a pod here."""

from __future__ import annotations

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
