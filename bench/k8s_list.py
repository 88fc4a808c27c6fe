"""What `alignlaunch list` asks a cluster with thousands of jobs, beside the raw client. `make bench-k8s` runs it.

The cluster is the tests' stand-in, or the real one of ALIGNLAUNCH_KUBECONFIG, in a namespace that goes again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.k8s import crowd
from tests.k8s.cluster import Cluster
from tests.k8s.namespaces import REAL, new_namespace
from tests.k8s.standin.standin import StandIn, obstacle

from .cli import aim, machine

RATIO_AIM, SECONDS_AIM = 1.0, 2.0


@dataclass(frozen=True)
class Listing:
    """One list, all its pages."""

    kind: str
    selectors: Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--jobs", type=int, default=2000, help="PyTorchJobs, of two pods each (default: 2000)")
    options = parser.parse_args()

    with a_cluster() as cluster:
        cluster.create_all(crowd.objects(cluster.namespace, options.jobs))
        text, met = report(cluster, options.jobs, options.rounds)
    print(text, end="")
    if options.write:
        made_by = f"<!-- Made by `python -m bench.k8s_list --write {options.write}`. Do not edit. -->\n"
        options.write.write_text(f"{made_by}# Thousands of jobs in a namespace\n\n{text}", encoding="utf-8")
    sys.exit(0 if met else 1)


@contextmanager
def a_cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="alignlaunch-bench-") as scratch:
        folder = Path(scratch)
        if REAL:
            with new_namespace(None, folder) as cluster:
                yield cluster
            return
        if reason := obstacle():
            raise SystemExit(f"no Kubernetes stand-in here: {reason}")
        with StandIn(folder / "k8s") as stand_in, new_namespace(stand_in, folder) as cluster:
            yield cluster


def report(cluster: Cluster, jobs: int, rounds: int) -> tuple[str, bool]:
    """Measure everything. Returns the Markdown, and whether every aim was met."""
    place = f"k8s://{cluster.context}/{cluster.namespace}"
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    rows, met = [], True
    # The clients have a process of their own: the stand-in and they are not to share one interpreter's lock.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        for count in (jobs, 20):
            listings = process.submit(asked, place, count).result()
            seconds: dict[Callable[..., float], list[float]] = {ours: [], client: [], wire: []}
            for number in range(rounds + 1):  # interleaved; the first is not counted
                for way, taken in seconds.items():
                    found = process.submit(way, place, count, listings).result()
                    if number:
                        taken.append(found)
            mine, theirs, least = (statistics.median(taken) for taken in seconds.values())
            ratio, more = mine / theirs, mine - least
            met = met and ratio <= RATIO_AIM and more <= SECONDS_AIM
            times = " | ".join(map(shown, seconds.values()))
            aims = f"{ratio:.2f} | {aim(ratio, RATIO_AIM)} | {more:.2f} s | {aim(more, SECONDS_AIM)}"
            rows.append(f"| {count:,} of {jobs:,} | {len(listings)} | {times} | {aims} |")
    server = "a real API server" if REAL else "the tests' stand-in, in a process of its own"
    header = ("runs", "lists", "alignlaunch", "kubernetes", "JSON", "to kubernetes", "aim", "over JSON", "aim")
    table = "\n".join([f"| {' | '.join(header)} |", f"| {' | '.join('---' for _ in header)} |", *rows])
    text = f"""Wall seconds: median (least to most) of {rounds} rounds, the three ways in turn,
against {server}, with {jobs:,} PyTorchJobs that wait; each has two pods and a warning.

`alignlaunch` is what `list` asks for all runs, or for the latest 20, and the joining of it into states with reasons.
`kubernetes` is the official client with the same lists, selectors and pages, into its models; `JSON` is the same bytes
through the same client and json.loads, the floor of both. tests/k8s/test_questions.py counts the requests: four for
2,000 jobs, three for 20.

{machine()}

{table}
"""
    return text, met


def shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


def asked(place: str, count: int) -> list[Listing]:
    """The lists that alignlaunch asks for."""
    from alignlaunch.launchers.backends.k8s.client import Api

    find = Api.find
    with patch.object(Api, "find", autospec=True, side_effect=find) as noted:
        ours(place, count, [])
    return [Listing(call.args[1], call.kwargs) for call in noted.call_args_list]


def ours(place: str, count: int, _: list[Listing]) -> float:
    from alignlaunch.launchers.backends.k8s.backend import KubernetesBackend

    runs = crowd.runs(place, count)
    begun = time.perf_counter()
    states = KubernetesBackend().statuses(runs)
    seconds = time.perf_counter() - begun
    if len(states) != count or not all(crowd.WHY in status.reason for status in states.values()):
        raise SystemExit(f"wrong states: {list(states.values())[:3]}")
    return seconds


def client(place: str, _: int, listings: list[Listing]) -> float:
    """Pods and events as the client's models; custom resources are dicts."""
    return pages(place, listings, lambda answer: answer)


def wire(place: str, _: int, listings: list[Listing]) -> float:
    return pages(place, listings, lambda response: json.loads(response.data), _preload_content=False)


def pages(place: str, listings: list[Listing], read: Callable[[Any], Any], **how: Any) -> float:
    from kubernetes import client, config

    from alignlaunch.launchers.backends.k8s.client import CUSTOM, PAGE

    begun = time.perf_counter()
    load: Any = config.new_client_from_config
    api = load()
    core: Any = client.CoreV1Api(api)
    custom: Any = client.CustomObjectsApi(api)
    methods = {"Pod": core.list_namespaced_pod, "Event": core.list_namespaced_event}
    namespace = place.rpartition("/")[2]
    for listing in listings:
        if listing.kind in CUSTOM:
            group, version, plural = CUSTOM[listing.kind]
            names: dict[str, Any] = {"group": group, "version": version, "plural": plural}
            method = custom.list_namespaced_custom_object
        else:
            names, method = {}, methods[listing.kind]
        token: str | None = ""
        while token is not None:
            more = {"_continue": token} if token else {}
            page = read(method(namespace=namespace, limit=PAGE, **names, **listing.selectors, **more, **how))
            token = (page["metadata"].get("continue") if isinstance(page, dict) else page.metadata._continue) or None
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
