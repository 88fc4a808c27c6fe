"""docs/role.yaml: enough for every command, and no right in it that nothing needs."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from .cli import User
from .cluster import Cluster
from .standin.injection import Injection
from .standin.objects.resources import Obj

DOCS = Path(__file__).parents[2] / "docs"
RULES: list[Obj] = yaml.safe_load((DOCS / "role.yaml").read_text())["rules"]
#: Without these a command does the same, later or with fewer words.
OPTIONAL = {"watch pytorchjobs", "watch trainjobs", "list workloads"}
#: Prints a line, and ends when it is told to.
TALKS = "trap 'exit 1' TERM; echo hello; sleep 300 & wait"
FORBIDDEN = [
    *(("list", "secrets"), ("create", "pods"), ("delete", "pods"), ("create", "pods/exec"), ("update", "configmaps")),
    *(("list", "configmaps"), ("create", "serviceaccounts/token"), ("create", "events"), ("watch", "pods")),
]


def rights(rules: list[Obj] = RULES) -> list[str]:
    """`VERB RESOURCE`, as the stand-in names a request."""
    return [f"{verb} {resource}" for rule in rules for resource in rule["resources"] for verb in rule["verbs"]]


def without(right: str) -> list[Obj]:
    verb, _, resource = right.partition(" ")
    rules = deepcopy(RULES)
    for rule in rules:
        if rule["resources"] == [resource]:
            rule["verbs"] = [one for one in rule["verbs"] if one != verb]
    return [rule for rule in rules if rule["verbs"]]


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


def test_an_administrator_applies_the_files(cluster: Cluster) -> None:
    """The Role, and the RoleBinding of docs/kubernetes.md."""
    cluster.kubectl("apply", "-f", str(DOCS / "role.yaml"))
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "kubernetes.md").read_text(), re.DOTALL)
    (binding,) = (block for block in blocks if "kind: RoleBinding" in block)
    cluster.kubectl("apply", "-f", "-", stdin=binding.replace("namespace: research", f"namespace: {cluster.namespace}"))
    bound = cluster.kubectl("get", "rolebinding", "alignlaunch", "-o", "jsonpath={.roleRef.name}").stdout
    assert bound == "alignlaunch"


def test_the_role_is_enough_for_every_command(user: User) -> None:
    cluster = user.cluster
    limited = cluster.as_user_with(*RULES)
    user.env["KUBECONFIG"] = str(limited)
    talks = user.write_script("talks", TALKS, nnodes=1)
    user.call("k8s", talks, "--cluster", "lab", "--dry-run")
    cluster.limit(pods="1")
    first = user.submit(talks)
    user.until(first, "RUNNING")
    second = user.submit(user.write_script("waits", "true", nnodes=1))
    assert "exceeded quota" in user.until(second, "PENDING", reason="FailedCreatePod")["reason"]
    listed = user.call("list").stdout
    assert "RUNNING" in listed
    assert "PENDING" in listed
    waiting = user.start("wait", first)
    assert user.call("cancel", first, "--keep").stderr.strip().endswith("pods.log")
    assert waiting.wait(60) == 1
    assert user.call("logs", first).stdout == "talks-master-0: hello\n"
    user.call("cancel", second)
    assert user.until(second, "CANCELLED")
    mine = Cluster(limited, cluster.namespace, cluster.image)
    assert not [right for right in FORBIDDEN if mine.may(*right)]


@pytest.mark.matrix  # sixteen rights, a minute and a half
def test_every_right_is_needed(user: User) -> None:
    """Each is taken away, and a command that needs it says which one it wants."""
    user.cluster.need("TrainJob")
    user.cluster.limit(pods="1")
    runs = user.submit(user.write_script("runs", TALKS, nnodes=1))
    user.until(runs, "RUNNING")
    waits = user.submit(user.write_script("waits", "true", nnodes=1))
    user.until(waits, "PENDING", reason="FailedCreatePod")
    trains, again = (user.submit(user.write_job(name, k8s={"kind": "TrainJob"})) for name in ("trains", "again"))
    held = {kind: hold_a_point(user, kind) for kind in ("PyTorchJob", "TrainJob")}
    new = ["k8s", user.write_job("new"), "--cluster", "lab", "--no-data-check"]
    new_train = ["k8s", user.write_job("newer", k8s={"kind": "TrainJob"}), *new[2:]]
    commands = {
        "create pytorchjobs": [*new, "--dry-run"],
        "get pytorchjobs": ["status", runs],
        "list pytorchjobs": ["list"],
        "delete pytorchjobs": ["cancel", waits],
        "patch pytorchjobs": ["wait", held["PyTorchJob"]],
        "create trainjobs": [*new_train, "--dry-run"],
        "get trainjobs": ["status", trains],
        "list trainjobs": ["list"],
        "delete trainjobs": ["cancel", again],
        "patch trainjobs": ["wait", held["TrainJob"]],
        "create configmaps": [*new, "--dry-run"],
        "get configmaps": [*new, "--dry-run"],
        "delete configmaps": new,  # which is refused half-way: see below
        "patch configmaps": new,
        "list pods": ["status", runs],
        "get pods": ["logs", runs],
        "get pods/log": ["logs", runs],
        "list events": ["status", waits],
    }
    assert set(commands) == {*rights()} - OPTIONAL
    for number, (right, command) in enumerate(commands.items()):
        verb, _, resource = right.partition(" ")
        user.env["KUBECONFIG"] = str(user.cluster.as_user_with(*without(right), name=f"tester-{number}"))
        if right == "delete configmaps":
            user.cluster.faults.inject(Injection(500, "POST", "/pytorchjobs[?](?!.*dryRun)"))
        said = user.call(*command, code=None).stderr
        user.cluster.faults.heal()
        assert f'cannot {verb} resource "{resource}"' in said, f"without {right}: {said}"
        remedy = "kubectl delete configmap" if right in ("patch configmaps", "delete configmaps") else "docs/role.yaml"
        assert remedy in said


def hold_a_point(user: User, kind: str) -> str:
    """A sweep whose first point is cancelled, so that it is the second one's turn."""
    name = f"held-{kind.lower()}"
    sweep = {"over": {"train.seed": [1, 2]}, "max_parallel": 1}
    job = user.write_job(name, k8s={"kind": kind}, nnodes=1, sweep=sweep)
    first, second = user.submit(job).split()
    user.until(second, "PENDING", reason="suspended")
    user.call("cancel", first)
    return name


def test_what_is_optional(user: User) -> None:
    """No watch, and no Workloads."""
    user.env["KUBECONFIG"] = str(user.cluster.as_user_with(*RULES[:6]))
    assert {*rights(RULES[6:])} == OPTIONAL
    run = user.submit(user.write_script("queued", "sleep 5; exit 3", {"queue": "research"}, nnodes=1))
    user.until(run, "PENDING", reason="not admitted by Kueue: waits in queue research")
    user.cluster.admit("research")
    waiting = user.start("wait", run)
    user.cluster.admit("research")
    assert waiting.wait(60) == 3
