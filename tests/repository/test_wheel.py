"""What is shipped: the file lists of wheel and sdist, and the wheel at work in an empty virtual environment.

setuptools' own build hooks are called, without isolation: nothing is downloaded to build. Only the installation needs
a package index, for the five dependencies.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from email.parser import Parser
from pathlib import Path

import pytest

import alignlaunch
from tests.support.stub_slurm import JOB, StubSlurm

ROOT = Path(__file__).parents[2]
NAME = f"alignlaunch-{alignlaunch.__version__}"
DIST_INFO = f"{NAME}.dist-info"
#: What each folder ships; whatever else lies in it stays at home.
SHIPPED = {
    "launchers": ["**/*.py", "diagnose/*.toml"],
    "train": ["**/*.py", "arguments/*.json"],
    "templates": ["**/*.j2"],
    "zero_configs": ["*.json", "README.md"],
}
DEPENDENCIES = {"click", "jinja2", "msgspec", "pyyaml", "rich", "submitit"}

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2]))
"""


def package_files(root: Path) -> list[str]:
    """The files of the import package, as they lie in a wheel."""
    found = [
        path for folder, patterns in SHIPPED.items() for pattern in patterns for path in (root / folder).glob(pattern)
    ]
    return [
        "alignlaunch/__init__.py",
        "alignlaunch/py.typed",
        *(f"alignlaunch/{path.relative_to(root)}" for path in found),
    ]


def build(kind: str, source: Path, output: Path) -> Path:
    """Call the PEP 517 hook `build_sdist` or `build_wheel` in `source`."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(output)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would have, links as links: a build leaves folders behind, and finds those of earlier ones."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "tests", *SHIPPED):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    # What editors and interpreters leave in such folders is not shipped.
    for stray in ("launchers/cli.py.orig", "templates/.job.j2.swp", "train/__pycache__/data.cpython-311.pyc"):
        (copy / stray).parent.mkdir(exist_ok=True)
        (copy / stray).touch()
    return copy


@pytest.fixture(scope="session")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked sdist, as `python -m build` does and as pip does from an index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["tar", "-xzf", sdist, "-C", folder], check=True)  # Python 3.11.2 has no `filter` for its own
    return build("wheel", folder / NAME, folder)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an empty virtual environment with the wheel and its dependencies."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "--quiet", str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return venv / "bin"


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_each_file_once_and_no_other(wheel: Path) -> None:
    about = ("METADATA", "WHEEL", "entry_points.txt", "top_level.txt", "RECORD", "licenses/LICENSE")
    expected = [*package_files(ROOT), *(f"{DIST_INFO}/{name}" for name in about)]
    assert Counter(names_in(wheel)) == Counter(expected)
    assert len(expected) == len(set(expected)) > 60  # an empty folder would make every list agree


def test_the_sdist_holds_each_file_once_and_no_other(sdist: Path) -> None:
    egg_info = "src/alignlaunch.egg-info"
    about = ("PKG-INFO", "SOURCES.txt", "dependency_links.txt", "entry_points.txt", "requires.txt", "top_level.txt")
    expected = [
        *(f"src/{name}" for name in package_files(ROOT)),
        *("LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"),
        *(f"{egg_info}/{name}" for name in about),
    ]
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert Counter(member.name for member in members if not member.isdir()) == Counter(f"{NAME}/{n}" for n in expected)
    # The links of src/ are packed as what they lead to: a source tree without its root folders must still build.
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []


def test_a_wheel_built_without_the_sdist_is_the_same(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    assert sorted(names_in(build("wheel", checkout, tmp_path))) == sorted(names_in(wheel))


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())
        entry_points = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        top_level = archive.read(f"{DIST_INFO}/top_level.txt").decode()
    requires = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {text.partition("=")[0].rstrip("><") for text in requires} == DEPENDENCIES
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == alignlaunch.__version__
    assert entry_points == "[console_scripts]\nalignlaunch = alignlaunch.launchers.cli:main\n"
    assert top_level == "alignlaunch\n"  # no `launchers` or `train` in everybody's site-packages


def test_the_installed_wheel_renders_checks_and_submits(installed: Path, tmp_path: Path) -> None:
    slurm = StubSlurm.create(tmp_path / "bin")
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    # PYTHONPATH would let the checkout stand in for what the wheel lacks.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG"))}
    env |= {"PATH": str(slurm.bin), "HOME": str(tmp_path)}

    def run(program: str, *arguments: str) -> str:
        command = [str(installed / program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    absent = "import importlib.util as i; print([m for m in ('torch', 'transformers', 'numpy') if i.find_spec(m)])"
    assert run("python", "-c", absent) == "[]\n"
    where = run("python", "-c", "import alignlaunch; print(alignlaunch.__file__)")
    assert Path(where).is_relative_to(installed.parent)

    assert "Commands:" in run("alignlaunch", "--help")
    assert run("alignlaunch", "--version").split()[-1] == alignlaunch.__version__
    assert json.loads(run("alignlaunch", "schema"))["$schema"]
    assert "stage: orpo" in run("alignlaunch", "init", "orpo")
    assert run("alignlaunch", "render", "job.yaml") == "launch/gruesse/bash\nlaunch/gruesse/slurm\n"
    assert run("alignlaunch", "check") == ""
    assert run("alignlaunch", "slurm", "job.yaml") == "slurm://stub/42\n"
    assert slurm.script == (tmp_path / "launch/gruesse/slurm/job.sbatch").read_bytes()
    # The nodes read what the submit host wrote, by the same wheel.
    resolved = tmp_path / "launch/gruesse/slurm/job.resolved.yaml"
    program = f"import pathlib; from alignlaunch.train import config; print(config.load(pathlib.{resolved!r}).stage)"
    assert run("python", "-c", program) == "orpo\n"
