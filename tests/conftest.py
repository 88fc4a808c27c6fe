"""What tests of several files share: the golden option, a job file in an empty folder, the command line."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from packaging.requirements import Requirement

# No deadline: the machine is shared with whatever else runs on it.
settings.register_profile("alignlaunch", max_examples=60, deadline=None)
settings.load_profile("alignlaunch")

#: The shortest job file there is; a stage's defaults fill in the rest.
MINIMAL = "name: tiny\nstage: sft\nmodel: model\ndata: {train: [data]}\n"

#: Without torch the submitting side is tested by itself, as it is on a login node (`make test-submit`).
IS_ALONE = find_spec("torch") is None and "train" not in os.environ.get("ALIGNLAUNCH_REQUIRE", "").split(",")
collect_ignore = ["train"] if IS_ALONE else []

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="Write tests/goldens/ anew instead of comparing.")


def pytest_configure(config: pytest.Config) -> None:
    """A worker of xdist dies with the run that started it, and with the worker the daemons that its tests started."""
    if hasattr(config, "workerinput"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _skip_what_trains() -> Generator[None, object, object]:
    """A test that imports a package of the training side is skipped where the submitting side is alone."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if IS_ALONE and str(error.name).partition(".")[0] in _training_packages():
            pytest.skip(f"needs {error.name}, and the submitting side is installed alone")
        raise


pytest_runtest_setup = pytest_runtest_call = pytest.hookimpl(wrapper=True)(_skip_what_trains)


def _training_packages() -> set[str]:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    return {Requirement(text).name for text in project["optional-dependencies"]["train"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters and training first: a long file that begins last leaves the other workers idle at the end.

    (xdist would begin with the files of the most tests; those of the fewest last longest.)
    """
    short = [Path(__file__).with_name(name) for name in ("launchers", "repository")]
    items.sort(key=lambda item: any(item.path.is_relative_to(folder) for folder in short))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their length: workers must agree on every name, and gzip packs the time with its bytes."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A minimal job file, alone in its folder."""
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `alignlaunch ARGUMENTS` in a process of its own, in `tmp_path`, with a home of its own."""

    def run(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ALIGNLAUNCH", "XDG_"))}
        return subprocess.run(
            [sys.executable, "-m", "alignlaunch.launchers.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "HOME": str(home), **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
