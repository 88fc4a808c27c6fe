"""Other Debians' Slurm, unpacked beside the installed one and run with their own libraries.

    python -m tests.slurm.debian             # what `make test` needs, into .cache/slurm/
    python -m tests.slurm.debian --newest    # what `make test-slurm` needs besides

apt fetches the packages with all that they depend on, from the mirror that this machine uses, and checks the archive's
signature. Nothing is installed: Slurm's programs are given the other Debian's loader and library path, so that neither
the machine nor what a job starts sees anything of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache" / "slurm"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurmdbd", "slurm-wlm-mysql-plugin")
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


def unpacked(suite: str) -> Path | None:
    """The folder with `bin`, `sbin` and `plugins` of a release's Slurm; None where it has not been unpacked."""
    folder = FOLDER / suite
    # The programs hold this path: a folder that was moved is none.
    stamp = folder / "path"
    return folder if stamp.is_file() and stamp.read_text(encoding="utf-8") == str(folder) else None


def here() -> str:
    """The code name of this machine's Debian; "" elsewhere."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    lines = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return lines.get("VERSION_CODENAME", "").strip('"') if lines.get("ID") == "debian" else ""


#: What `make test` runs beside the installed Slurm: 24.11, or where that is the installed one 22.05.
OTHER = "trixie" if here() != "trixie" else "bookworm"
#: Debian's testing has the newest Slurm that is packaged: 26.05 when this was written. It changes: not for `make test`.
NEWEST = "forky"


def unpack(suite: str) -> Path:
    """Fetch and prepare a release's Slurm, unless that was done."""
    if done := unpacked(suite):
        return done
    folder = FOLDER / suite
    shutil.rmtree(folder, ignore_errors=True)
    packages = _fetch(suite, folder / "apt")
    root = folder / "root"
    for package in packages:
        _run("dpkg-deb", "--extract", str(package), str(root))
    (plugins,) = root.glob("usr/lib/*/slurm-wlm")
    libraries = f"{plugins.parent}:{plugins}"
    for place in ("bin", "sbin"):
        (folder / place).mkdir()
        for program in sorted((root / "usr" / place).iterdir()):
            if _is_slurms(program):
                adapted = folder / place / program.name.removesuffix("-wlm")  # Debian's alternatives link to these
                shutil.copy(program, adapted)
                _adapt(adapted, root, libraries)
    (folder / "plugins").symlink_to(plugins)
    for unused in ("apt", "root/usr/share", "root/usr/bin", "root/usr/sbin", "root/usr/lib/systemd", "root/var"):
        shutil.rmtree(folder / unused, ignore_errors=True)
    (folder / "path").write_text(str(folder), encoding="utf-8")
    return folder


def _fetch(suite: str, folder: Path) -> list[Path]:
    """The packages of Slurm in a release, and every one that they depend on."""
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
    _run("apt-get", *options, "install", *PACKAGES, env=env)
    return sorted(archives.glob("*.deb"))


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    return _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).split()[0]


def _is_slurms(program: Path) -> bool:
    """Whether a program of the unpacked root is linked with Slurm's own library."""
    return not program.is_symlink() and b"libslurm" in program.read_bytes()


def _adapt(program: Path, root: Path, libraries: str) -> None:
    """Have a program use the loader and the libraries of `root`."""
    loader = _run("patchelf", "--print-interpreter", str(program)).strip().lstrip("/")
    (own,) = (path for path in (root / "usr" / loader, root / loader) if path.exists())
    # RPATH and not RUNPATH: it counts for what the plugins need, too.
    _run("patchelf", "--set-interpreter", str(own), "--force-rpath", "--set-rpath", libraries, str(program))


def _run(*argv: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for name in (OTHER, *([NEWEST] if "--newest" in sys.argv else [])):
        unpack(name)
