"""The places to run, by the first part of their handles. Each is imported when it is used: `--help` needs none."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .base import Backend


class Option(NamedTuple):
    """An option of a place's own command. metavar: "" for a flag."""

    name: str
    metavar: str
    help: str


class Place(NamedTuple):
    """backend: "module:Class" in this folder; options: keyword arguments of the class, by their names."""

    backend: str
    help: str
    options: tuple[Option, ...] = ()


#: In the order of `alignlaunch --help`. A further place is a module beside this one, and its line.
PLACES = {
    "slurm": Place("slurm.backend:SlurmBackend", "Submit JOB, a job or pipeline file, to Slurm."),
    "local": Place("local:LocalBackend", "Run JOB, a job or pipeline file, on this machine. Ctrl-C ends it."),
    "k8s": Place(
        "k8s.backend:KubernetesBackend",
        "Submit JOB to Kubernetes, as a PyTorchJob or TrainJob.",
        (
            Option("context", "NAME", "Context of the kubeconfig; else its current one."),
            Option("namespace", "NAME", "Instead of the job's or the context's."),
            Option("require_digest", "", "Refuse an image that is not NAME@sha256:DIGEST."),
        ),
    ),
}


def open_(scheme: str, **options: Any) -> Backend:
    """The backend of a place, with the options of its command."""
    module, _, name = PLACES[scheme].backend.partition(":")
    found: Backend = getattr(import_module(f".{module}", __package__), name)(**options)
    return found


@cache
def of(scheme: str) -> Backend:
    """The backend of a place, without options: what a handle names is enough to ask for it."""
    return open_(scheme)
