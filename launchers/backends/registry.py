"""The places to run, by the scheme of their handles. A place is imported only when it is used, for a quick `--help`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError

if TYPE_CHECKING:
    from .base import Backend


class Option(NamedTuple):
    """An option that only this place's command has. metavar: "" for a flag."""

    name: str
    metavar: str
    help: str


class Place(NamedTuple):
    """backend: "module:Class" in this folder. options: their names are the keyword arguments of the class."""

    backend: str
    help: str
    options: tuple[Option, ...] = ()


#: In the order of `alignlaunch --help`. To add a place: a module in this folder, and its line here.
PLACES = {
    "slurm": Place("slurm.backend:SlurmBackend", "Submit JOB, a job or pipeline file, to Slurm."),
    "local": Place(
        "local:LocalBackend",
        "Run JOB, a job or pipeline file, on this machine. Ctrl-C ends it.",
        (Option("detach", "", "Return at once; the terminal may be closed."),),
    ),
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
    """A new backend of a place, with the options of its command. Raises UsageError if there is no such place."""
    if scheme not in PLACES:
        raise UsageError(
            f"{scheme}://: no such kind of handle\n    remedy: {' or '.join(f'{one}://...' for one in PLACES)}"
        )
    module, _, name = PLACES[scheme].backend.partition(":")
    found: Backend = getattr(import_module(f".{module}", __package__), name)(**options)
    return found


@cache
def of(scheme: str) -> Backend:
    """The backend of a place, without options: a handle names all that is needed to query its run."""
    return open_(scheme)
