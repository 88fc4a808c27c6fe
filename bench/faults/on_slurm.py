"""Runs of two nodes on the tests' private Slurm."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from tests.slurm.cli import Login
from tests.slurm.cluster import debian
from tests.slurm.cluster.private_slurm import PrivateSlurm

from .laboratory import Laboratory, weights

#: Of the file system of the output folders, which can be filled, and made read-only: more than what preflight asks for.
_SIZE = "1500m"
#: Seconds to wait for a process of a run that has just been started again.
_PATIENCE = 120
#: The modules that each rank runs, and that each node does.
TRAIN, LAUNCHER = "alignlaunch.train", "alignlaunch.train.torchrun"


class Cluster:
    """What may happen to the jobs of a private Slurm."""

    def __init__(self, slurm: PrivateSlurm) -> None:
        self._slurm = slurm
        #: Of each run its script, by the id of its first job, which Slurm forgets in time.
        self._scripts: dict[str, str] = {}
        #: By its name; each is given the handle of a run.
        self.faults: dict[str, Callable[[str], object]] = {
            "slurmd and all processes of a node killed": self._kill_node,
            "node set down": self._set_node_down,
            "a process and the other node's launcher killed": self._kill_two,
            "a launcher killed, and its port taken": self._take_port,
            "slurmctld restarted": lambda _: slurm.restart_slurmctld(),
            "slurmctld gone for 20 s": self._without_slurmctld,
            "a process killed while slurmctld is gone": self._kill_without_slurmctld,
            "time limit": self._end_time,
            "time limit where Slurm does not requeue": self._end_time_for_good,
            "scancel": self._scancel,
            "preempted": self._preempt,
            "requeued by an operator": lambda handle: slurm.run("scontrol", "requeue", self.job(handle)),
        }

    def job(self, handle: str) -> str:
        """The id of the run's job: the handle's, or that of the last one which went on with it."""
        listed = self._slurm.run("squeue", "--noheader", "--states=all", "--format=%i|%o").stdout.split()
        scripts = dict(line.split("|", 1) for line in listed)
        first = handle.rpartition("/")[2]
        script = self._scripts.setdefault(first, scripts.get(first, ""))
        return max((one for one in scripts if scripts[one] == script), key=int, default=first)

    def process(self, handle: str, module: str, rank: int) -> psutil.Process:
        """A process of the run: that of this rank, or the launcher on the node of this number.

        Waits for it, as the run may just be between two attempts. Raises LookupError.
        """
        deadline = time.monotonic() + _PATIENCE
        while (found := self._process(self.job(handle), module, rank)) is None:
            if time.monotonic() > deadline:
                raise LookupError(f"{handle}: no {module} of rank {rank}")
            time.sleep(0.1)
        return found

    def _process(self, job: str, module: str, rank: int) -> psutil.Process | None:
        variables = ["PET_NODE_RANK"] if module == LAUNCHER else ["RANK", "SLURM_PROCID"]
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if module not in words or (module == TRAIN and LAUNCHER in words):
                continue
            try:
                env = process.environ()
            except psutil.Error:
                continue
            if env.get("SLURM_JOB_ID") == job and str(rank) in map(env.get, variables):
                return process
        return None

    def _kill_node(self, handle: str) -> None:
        del handle
        self._slurm.kill_node("n2")
        time.sleep(40)
        self._slurm.start_node("n2")

    def _set_node_down(self, handle: str) -> None:
        del handle
        self._slurm.set_node("n2", "DOWN")
        time.sleep(5)
        self._slurm.set_node("n2", "RESUME")

    def _kill_two(self, handle: str) -> None:
        process, launcher = self.process(handle, TRAIN, 0), self.process(handle, LAUNCHER, 1)
        process.kill()
        launcher.kill()

    def _take_port(self, handle: str) -> None:
        """Somebody else listens on the run's port, from the moment that it is free, for half a minute."""
        launcher = self.process(handle, LAUNCHER, 0)
        port = int(launcher.environ()["PET_MASTER_PORT"])
        launcher.kill()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deadline = time.monotonic() + 30
            while True:
                try:
                    taken.bind(("", port))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            taken.listen()
            time.sleep(30)

    def _without_slurmctld(self, handle: str) -> None:
        del handle
        self._slurm.stop_slurmctld()
        time.sleep(20)
        self._slurm.start_slurmctld()

    def _kill_without_slurmctld(self, handle: str) -> None:
        process = self.process(handle, TRAIN, 1)
        self._slurm.stop_slurmctld()
        process.kill()
        time.sleep(20)
        self._slurm.start_slurmctld()

    def _scancel(self, handle: str, *options: str) -> None:
        self._slurm.run("scancel", *options, self.job(handle))

    def _end_time(self, handle: str) -> None:
        self._scancel(handle, "--batch", "--signal=USR2")

    def _end_time_for_good(self, handle: str) -> None:
        self._slurm.run("scontrol", "update", f"JobId={self.job(handle)}", "Requeue=0")
        self._end_time(handle)

    def _preempt(self, handle: str) -> None:
        del handle
        other = ("--partition=prio", "--nodes=2", "--exclusive", "--wrap=sleep 1", "--output=/dev/null")
        self._slurm.run("sbatch", *other)


class SlurmLaboratory(Laboratory):
    """A login on a private Slurm."""

    def __init__(self, login: Login) -> None:
        self.login, self.slurm = login, login.slurm
        self.version = self.slurm.run("sinfo", "--version").stdout.strip().replace("slurm-wlm", "Slurm")
        self.disk, self._is_read_only = login.folder / "output", False
        self.outside = {
            **Cluster(self.slurm).faults,
            "disk full": self._fill,
            "output folder read-only": self._make_read_only,
            "checkpoint asked for": lambda handle: login.call("save", handle),
            "stop asked for": lambda handle: login.call("save", handle, "--stop"),
        }
        super().__init__(login)

    def start(self, name: str) -> str:
        return self.login.submit(name)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def has_result(self, name: str) -> bool:
        return weights(self.folder / self.output(name))

    def mend(self) -> None:
        (self.disk / "filler").unlink(missing_ok=True)
        self.slurm.wait_idle()
        if self._is_read_only:
            self._on_nodes("umount", self.disk)
            self._is_read_only = False

    def _make_read_only(self, handle: str) -> None:
        """As a file server does that has failed over: what is opened from now on."""
        del handle
        self._on_nodes("mount", "--bind", self.disk, self.disk)
        self._on_nodes("mount", "-o", "remount,bind,ro", self.disk)
        self._is_read_only = True

    def _on_nodes(self, *command: str | Path) -> None:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[:3] == ["slurmd", "-D", "-N"] and process.environ()["SLURM_CONF"] == self.slurm.env["SLURM_CONF"]:
                subprocess.run(["nsenter", "--mount", "--target", str(process.pid), *command], check=True)

    def _fill(self, handle: str) -> None:
        del handle
        with (self.disk / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                return


@contextmanager
def laboratory(suite: str) -> Iterator[SlurmLaboratory]:
    """suite: whose Slurm, as Debian names it; "installed" for the installed one."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-faults-") as scratch:
        folder = Path(scratch) / "login"
        disk = folder / "output"
        disk.mkdir(parents=True)
        # Before the nodes get their own view of what is mounted.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", disk], check=True)
        try:
            programs = None if suite == "installed" else debian.unpack(suite)
            with PrivateSlurm(Path(scratch) / "slurm", accounting=False, programs=programs) as slurm:
                yield SlurmLaboratory(Login(slurm, folder))
        finally:
            subprocess.run(["umount", disk], check=True)
