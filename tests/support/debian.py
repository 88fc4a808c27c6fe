"""Packages of another Debian, unpacked beside this machine's own and run with their own libraries.

apt fetches them with all that they depend on, from the mirror that this machine uses, and checks their signature.
Nothing is installed: programs are given the other Debian's loader and library path, so that neither the machine nor
what they start sees anything of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT = """\
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "-";
APT::Sandbox::User "{user}";
APT::Architecture "{architecture}";
Acquire::Languages "none";
"""


def here() -> str:
    """The code name of this machine's Debian; "" elsewhere."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    lines = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return lines.get("VERSION_CODENAME", "").strip('"') if lines.get("ID") == "debian" else ""


#: The stable Debian that this machine does not have: Slurm 24.11 and Python 3.13, or where those are the installed ones
#: 22.05 and 3.11.
OTHER = "trixie" if here() != "trixie" else "bookworm"
#: Debian's testing has the newest that is packaged: Slurm 26.05 and Python 3.14 when this was written. It changes: not
#: for `make test`.
NEWEST = "forky"


def is_ready(folder: Path) -> bool:
    """Whether `unpack` has filled a folder. The programs hold its path: one that was moved is none."""
    stamp = folder / "path"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == str(folder)


def unpack(suite: str, folder: Path, packages: tuple[str, ...], prepare: Callable[[Path], None]) -> None:
    """Fill `folder`, unless that was done: packages of a release in `folder/root`, made ready by `prepare(folder)`."""
    if is_ready(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for package in _fetch(suite, folder / "apt", packages):
        _run("dpkg-deb", "--extract", str(package), str(folder / "root"))
    prepare(folder)
    shutil.rmtree(folder / "apt")
    (folder / "path").write_text(str(folder), encoding="utf-8")


def adapt(program: Path, root: Path, libraries: str) -> None:
    """Have a program use the loader of `root` and the libraries of these folders."""
    loader = _run("patchelf", "--print-interpreter", str(program)).strip().lstrip("/")
    (own,) = (path for path in (root / "usr" / loader, root / loader) if path.exists())
    # RPATH and not RUNPATH: it counts for what the plugins need, too.
    _run("patchelf", "--set-interpreter", str(own), "--force-rpath", "--set-rpath", libraries, str(program))


def _fetch(suite: str, folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The packages of these names in a release, and every one that they depend on."""
    archives = folder / "cache" / "archives"
    for needed in (archives / "partial", folder / "state" / "lists" / "partial"):
        needed.mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] {_mirror()} {suite} main\n", encoding="utf-8")
    configuration = folder / "apt.conf"
    values = {"user": Path.home().owner(), "architecture": _run("dpkg", "--print-architecture").strip()}
    configuration.write_text(APT.format(folder=folder, **values), encoding="utf-8")
    env = {**os.environ, "APT_CONFIG": str(configuration)}
    _run("apt-get", "--quiet=2", "update", "--error-on=any", env=env)
    options = ("--quiet=2", "--yes", "--no-install-recommends", "--download-only")
    _run("apt-get", *options, "install", *names, env=env)
    return sorted(archives.glob("*.deb"))


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    return _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).split()[0]


def _run(*argv: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
