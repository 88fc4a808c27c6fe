"""One container: a process in namespaces of its own, with a file system that keeps nothing.

The root is an overlay over the machine's own: what is written outside of a volume is gone with the container, as with a
real image. /tmp is empty, /dev/shm has the 64 MiB that container runtimes give, and the process is number 1, so signals
that it does not handle do not reach it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.network import PodSandbox, guarded

from .images import NSLOOKUP, host_folders

SHM_SIZE = "64m"
PASSWD = "root:x:0:0::/root:/bin/sh\nalignlaunch:x:1000:1000::/home/alignlaunch:/bin/sh\n"


# The parent of process 1 returns its exit code, 128 + N where signal N ended it (`unshare --fork` gets KILL wrong).
# What the shell itself would say of a signal is no part of the log.
OUTSIDE = 'exec 3>&2 2>/dev/null; sh -c "$0" 2>&3 3>&-; exit $?'


@dataclass(frozen=True)
class Mount:
    """`source`: a file or folder of this machine; None for a tmpfs, of `size` bytes if that is given."""

    target: str
    source: Path | None
    read_only: bool = False
    size: str = ""


@dataclass(frozen=True)
class ContainerSpec:
    argv: Sequence[str]
    env: dict[str, str]
    working_dir: str
    uid: int
    gid: int
    groups: Sequence[int] = ()
    mounts: Sequence[Mount] = ()
    hosts: Path = Path("/etc/hosts")
    may_gain_privileges: bool = True
    read_only_root: bool = False
    drop_all_capabilities: bool = False
    folder: Path = field(default_factory=Path)  # of this container, for its root


def start(spec: ContainerSpec, pod: PodSandbox) -> subprocess.Popen[bytes]:
    """The running container; its stdout is a pipe with both streams. Call it from the thread that waits for it."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid"]
    tools = {name: shutil.which(name) or name for name in ("setpriv", "nsenter", "unshare", "sh")}
    argv = guarded(*pod.enter, *unshare, "sh", "-c", OUTSIDE, _script(spec))
    ready = _ready_file(spec)
    ready.unlink(missing_ok=True)
    process = subprocess.Popen(
        [tools.get(word, word) for word in argv],
        env=spec.env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    while process.poll() is None and not ready.exists():  # a signal before that would be lost
        time.sleep(0.001)
    return process


def _ready_file(spec: ContainerSpec) -> Path:
    """Written when process 1 is about to become the container's command."""
    return spec.folder.with_suffix(".ready")


def _script(spec: ContainerSpec) -> str:
    """What process 1 does before it becomes the container's command."""
    top = shlex.quote(str(spec.folder))
    root = shlex.quote(f"{spec.folder}/root")
    lines = [
        "set -e",
        "user_path=$PATH",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        f"mount -t tmpfs tmpfs {top}",
        f"mkdir {top}/upper {top}/work {top}/root",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={top}/upper,workdir={top}/work {root}",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",  # noqa: S108
        *_bind_host_folders(root),  # after it: the repository may lie in /tmp
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -t tmpfs -o mode=1777,size={SHM_SIZE} tmpfs {root}/dev/shm",  # noqa: S108 (not this machine's)
        f"mount --bind {shlex.quote(str(spec.hosts))} {root}/etc/hosts",
        f"printf %s {shlex.quote(PASSWD)} > {root}/etc/passwd",
        f"mkdir -p {root}/home/alignlaunch {root}/opt/stand-in/bin && chown 1000:1000 {root}/home/alignlaunch",
        f"printf %s {shlex.quote(NSLOOKUP)} > {root}/opt/stand-in/bin/nslookup",
        f"chmod 755 {root}/opt/stand-in/bin/nslookup",
        *(line for mount in spec.mounts for line in _mount_lines(root, mount)),
        f"mkdir -p {root}{shlex.quote(spec.working_dir)}",
        *([f"mount -o remount,ro {root}"] if spec.read_only_root else []),
        f"cd {root}{shlex.quote(spec.working_dir)}",
        "PATH=$user_path",
        f": > {shlex.quote(str(_ready_file(spec)))}",
        f"exec {_become(spec)} {shlex.join(spec.argv)}",
    ]
    return "\n".join(lines)


def _bind_host_folders(root: str) -> list[str]:
    """What the overlay does not show; and anybody may go where the interpreter lies."""
    lines = []
    for folder in host_folders():
        if folder.stat().st_dev != Path("/").stat().st_dev or folder.is_relative_to("/tmp"):  # noqa: S108
            lines.append(f"mkdir -p {root}{folder} && mount --bind {folder} {root}{folder}")
        lines += [f"chmod o+x {root}{parent}" for parent in folder.parents if not parent.stat().st_mode & 1]
    return lines


def _mount_lines(root: str, mount: Mount) -> list[str]:
    target = root + shlex.quote(mount.target)
    if mount.source is None:
        size = f",size={mount.size}" if mount.size else ""
        return [f"mkdir -p {target}", f"mount -t tmpfs -o mode=1777{size} tmpfs {target}"]
    make = f"mkdir -p {target}" if mount.source.is_dir() else f'mkdir -p "$(dirname {target})"; touch {target}'
    lines = [make, f"mount --bind {shlex.quote(str(mount.source))} {target}"]
    return [*lines, f"mount -o remount,ro,bind {target}"] if mount.read_only else lines


def _become(spec: ContainerSpec) -> str:
    """The command prefix that changes the root and the user."""
    chroot, setpriv = shutil.which("chroot"), shutil.which("setpriv")
    groups = f"--groups {','.join(map(str, spec.groups))}" if spec.groups else "--clear-groups"
    # The death signal last: a change of user cancels it.
    options = [f"--reuid {spec.uid} --regid {spec.gid} {groups} --pdeathsig KILL"]
    options += ["--no-new-privs"] if not spec.may_gain_privileges else []
    options += ["--bounding-set -all"] if spec.drop_all_capabilities else []
    # The shell stands in the new root already; chroot keeps it there.
    enter = f"{chroot} {shlex.quote(str(spec.folder / 'root'))} /usr/bin/env -C {shlex.quote(spec.working_dir)}"
    return f"{enter} {setpriv} {' '.join(options)} --"


def first_process(container: subprocess.Popen[bytes]) -> int | None:
    """The machine's number of the container's process 1; None before it is there."""
    try:
        children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(children[0]) if children else None


def send(container: subprocess.Popen[bytes], signum: signal.Signals) -> None:
    """A signal to process 1 of the container; its death takes all others along."""
    pid = first_process(container)
    if pid is not None:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return


def memory_of(container: subprocess.Popen[bytes]) -> int:
    """Bytes that the container's processes hold for themselves alone."""
    pid = first_process(container)
    return _memory_below(pid) if pid is not None else 0


def _memory_below(pid: int) -> int:
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for thread in threads for c in (thread / "children").read_text(encoding="ascii").split()]
    except OSError:  # it ended meanwhile
        return 0
    return (int(resident) - int(shared)) * page + sum(map(_memory_below, children))
