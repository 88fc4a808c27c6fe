"""The pods' network: a bridge in a network namespace of its own; the machine's own network stays as it is."""

from __future__ import annotations

import itertools
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SUBNET = "10.244"
ENDLESS = ("sleep", "infinity")


def guarded(*argv: str) -> list[str]:
    """The command, killed when the thread that starts it ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


@dataclass
class PodSandbox:
    """The namespaces that the containers of a pod share, held by a process that does nothing."""

    process: subprocess.Popen[bytes]
    address: str

    @property
    def enter(self) -> list[str]:
        """The command prefix that runs something in them."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", f"--uts=/proc/{self.process.pid}/ns/uts", "--"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class PodNetwork:
    """Every pod gets an address that every other pod reaches."""

    def __init__(self) -> None:
        self._numbers = itertools.count(2)
        self._bridge: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._bridge = subprocess.Popen(guarded("unshare", "--net", *ENDLESS))
        self._in(self._bridge, f"link add pods type bridge\naddr add {SUBNET}.0.1/16 dev pods\nlink set pods up")

    def stop(self) -> None:
        if self._bridge is not None:
            self._bridge.kill()
            self._bridge.wait()

    def add_pod(self, hostname: str) -> PodSandbox:
        """Call it from the thread that lives as long as the pod."""
        assert self._bridge is not None
        number = next(self._numbers)
        address = f"{SUBNET}.{number >> 8}.{number & 255}"
        pod = subprocess.Popen(guarded("unshare", "--net", "--uts", *ENDLESS))
        link = f"link add pod{number} netns {self._bridge.pid} type veth peer name eth0 netns {pod.pid}"
        _wait_for_namespace(pod.pid)
        subprocess.run(["ip", *link.split()], check=True)
        self._in(self._bridge, f"link set pod{number} master pods up")
        self._in(pod, f"addr add {address}/16 dev eth0\nlink set eth0 up\nlink set lo up")
        sandbox = PodSandbox(pod, address)
        subprocess.run([*sandbox.enter, "hostname", hostname], check=True)
        return sandbox

    @staticmethod
    def _in(process: subprocess.Popen[bytes], commands: str) -> None:
        _wait_for_namespace(process.pid)
        enter = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "-batch", "-"]
        subprocess.run(enter, input=commands, text=True, check=True)


def _wait_for_namespace(pid: int, patience: float = 10) -> None:
    """Until the process has left this network namespace for one of its own."""
    deadline = time.monotonic() + patience
    while Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} has no network namespace of its own")
        time.sleep(0.002)
