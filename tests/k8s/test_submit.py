"""`alignlaunch k8s` over HTTP: a training over two pods from submission to cancel, and what the server refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.tiny import TRAIN, make_model, write_data

from .cli import User
from .cluster import Cluster

OURS = "app.kubernetes.io/managed-by=alignlaunch"


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    cluster.need("PyTorchJob")
    return User(cluster, tmp_path)


@pytest.mark.matrix  # test_deleted_pods.py has two pods, too
def test_two_pods_of_two_processes_train_as_one_process(user: User) -> None:
    cluster, folder = user.cluster, user.folder
    make_model(folder / "model")
    write_data(folder)
    cluster.fill_claim("data", folder)
    train = TRAIN | {"logging_steps": 1}
    job = user.write_job("tiny", nproc_per_node=2, train=train)
    handle = user.submit(job)
    name = handle.rpartition("/")[2]
    assert (name, user.status("tiny")["handle"]) == ("tiny", handle)
    config_map = next(c for c in cluster.config_maps() if c.startswith("tiny-"))
    assert cluster.owners("configmap", config_map) == [("PyTorchJob", "tiny")]

    followed = user.call("logs", "tiny", "--follow", "--rank", "0").stdout
    assert "process 0 of 4 (torchrun)" in followed
    assert "all-reduce: " in followed
    assert all(line.startswith("tiny-master-0: [rank0]") for line in followed.splitlines() if "step " in line)
    user.call("wait", "tiny")
    ended = user.status("tiny")
    assert (ended["state"], ended["exit_code"]) == ("COMPLETED", 0), user.call("logs", "tiny").stdout
    both = user.call("logs", "tiny").stdout
    assert "preflight: passed: 2 nodes x 2 at tiny-master-0:" in both
    assert {line.partition(":")[0] for line in both.splitlines()} == {"tiny-master-0", "tiny-worker-0"}
    assert user.call("logs", "tiny", "--node", "1", "--tail", "1").stdout.startswith("tiny-worker-0: ")

    user.call(
        "local",
        job,
        "--set",
        "nnodes=1",
        "--set",
        "nproc_per_node=1",
        "--set",
        "output_dir=alone",
        "--set",
        "train.gradient_accumulation_steps=8",
    )
    found = losses(cluster.read_claim("data", "out/tiny/metrics.jsonl").decode())
    alone = losses((folder / "alone" / "metrics.jsonl").read_text())
    assert len(found) == TRAIN["max_steps"]
    assert found == pytest.approx(alone, abs=1e-4)

    user.call("cancel", handle, "--keep")
    cluster.wait(lambda: not cluster.pods() and config_map not in cluster.config_maps())
    assert user.call("logs", handle).stdout == both


def test_preflight_only_trains_nothing(user: User) -> None:
    cluster, folder = user.cluster, user.folder
    make_model(folder / "model")
    write_data(folder)
    cluster.fill_claim("data", folder)
    user.submit(user.write_job("look", train=TRAIN), "--preflight-only", "--wait")
    log = user.call("logs", "look").stdout
    assert "preflight: passed: 2 nodes x 1 at look-master-0:" in log
    assert "nothing was trained" in log
    assert "step " not in log


def losses(text: str) -> list[float]:
    return [record["loss"] for record in map(json.loads, text.splitlines()) if "loss" in record]


def test_a_name_in_use_gets_a_suffix_of_its_own(user: User) -> None:
    job = user.write_script("twice", "sleep 300")
    first = user.submit(job)
    second = user.submit(job, "--set", "output_dir=elsewhere", "--write")
    assert first.endswith("/twice")
    assert second.rpartition("/")[2].startswith("twice-")
    assert len(user.cluster.config_maps(OURS)) == 2
    user.call("cancel", second)
    user.call("cancel", first)
    user.until(first, "CANCELLED")
    assert user.cluster.wait(lambda: not user.cluster.pods()) is True


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"patch": {"spec": {"nonsense": 1}}}, ["spec.nonsense", "k8s.patch"]),
        ({"patch": {"spec": {"runPolicy": {"backoffLimit": "many"}}}}, ["backoffLimit", "k8s.backoff_limit"]),
        ({"namespace": "nowhere"}, ["nowhere", "k8s.namespace"]),
    ],
    ids=str,
)
def test_what_the_server_refuses(user: User, keys: dict[str, object], says: list[str]) -> None:
    said = user.refused(user.write_script("refused", "true", keys))
    assert all(word in said for word in [*says, "remedy", "nothing was submitted"]), said
    assert not user.cluster.pods()
    assert not [name for name in user.cluster.config_maps() if name.startswith("refused")]
    assert not list(user.folder.glob("runs/refused-*"))


def test_no_right_to_create_jobs(user: User) -> None:
    rules = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    jobs = {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": ["get"]}
    user.env["KUBECONFIG"] = str(user.cluster.as_user_with(rules, jobs))
    said = user.refused(user.write_script("mine", "true"))
    assert "forbidden" in said
    assert "kubectl auth can-i create pytorchjobs" in said
    assert not [name for name in user.cluster.config_maps() if name.startswith("mine")]


def test_a_used_up_quota(user: User) -> None:
    user.cluster.limit(**{"count/pytorchjobs.kubeflow.org": "0"})
    said = user.refused(user.write_script("much", "true"))
    assert "exceeded quota" in said
    assert "the quota of" in said


def test_the_operator_is_down(user: User) -> None:
    job = user.write_script("early", "true")
    with user.cluster.faults.operator_down():
        said = user.refused(job)
    assert "the training operator, which must admit every job, is down" in said


def test_the_kind_is_not_installed(user: User) -> None:
    from .standin.objects.resources import TRAINJOBS

    job = user.write_job("new", k8s={"kind": "TrainJob"})
    with user.cluster.faults.crd_missing(TRAINJOBS):
        said = user.refused(job)
    assert "this cluster knows no TrainJob" in said


def test_no_api_server(user: User) -> None:
    job = user.write_script("away", "true")
    with user.cluster.faults.api_server_down():
        said = user.refused(job)
        assert "does not answer" in said
    user.env["KUBECONFIG"] = "/nowhere"
    assert "no kubeconfig" in user.refused(job, code=2)
    assert not list(user.folder.glob("runs/away-*"))


def test_a_dry_run_asks_the_server_and_stores_nothing(user: User) -> None:
    job = user.write_script("dry", "true")
    done = user.call("k8s", job, "--cluster", "lab", "--dry-run")
    assert "kind: PyTorchJob" in done.stdout
    assert f"would take it into namespace {user.cluster.namespace}" in done.stderr
    assert not user.cluster.config_maps(OURS)
    assert not (user.folder / "launch").exists()
    bad = user.write_script("bad", "true", {"patch": {"spec": {"nonsense": 1}}})
    refused = user.call("k8s", bad, "--cluster", "lab", "--dry-run", code=3)
    assert "spec.nonsense" in refused.stderr
