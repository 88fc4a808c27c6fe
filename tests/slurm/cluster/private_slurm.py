"""A private, real Slurm of two nodes on this one machine, everything under one folder.

    with PrivateSlurm(tmp_path, accounting=False) as slurm:
        slurm.run("sbatch", "--parsable", "job.sh")

Needs root and Debian's `slurm-wlm munge` (with accounting `slurmdbd mariadb-server` too). Each node is a slurmd in its
own mount, UTS and PID namespace: inside, `hostname` says n1, the names n1 and n2 resolve to loopback addresses of their
own, /dev/shm is its own, and killing the namespace kills all that runs on the node, as a power cut does. The machine's
/etc/hosts stays as it is.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.ports import free_ports

from .configuration import SLURM_CONF, SLURMDBD_CONF
from .daemons import Daemons, PrivateSlurmError
from .node import NAMESPACES, NODE_SCRIPT
from .programs import missing_binaries, search_path

NODES = {"n1": "127.0.1.1", "n2": "127.0.1.2"}
GPUS = 4  # a node
# munged's socket is the longest one: root + "/munge.sock.lock"; the kernel allows 108 bytes.
LONGEST_ROOT = 80
STARTUP_S = 60.0

# A job in one of these will not change any more (NODE_FAIL and PREEMPTED can be on the way to a requeue).
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


class PrivateSlurm:
    """Start on entry, stop on exit. `env` is what squeue, sbatch, sacct and scontrol need to reach this Slurm.

    `min_job_age`: seconds after which slurmctld forgets a finished job (Slurm's default is 300).
    `message_timeout`: how long a client waits for a slurmctld that is down (Slurm's default is 10; squeue tries twice).
    `own_hostnames`: `hostname` says n1 and n2; without, both say this machine's name, as where host names are not the
    node names: there torchrun's c10d rendezvous fails unless it is told `is_host` and `--local-addr`.
    `programs`: `bin`, `sbin` and `plugins` of another Slurm than the installed one (`debian` unpacks them).
    With accounting, account `lab` and the QOS `normal` and `high` exist, and others are refused, as sites do.
    """

    def __init__(
        self,
        root: Path,
        accounting: bool,
        *,
        min_job_age: int = 300,
        message_timeout: int = 10,
        own_hostnames: bool = True,
        programs: Path | None = None,
    ) -> None:
        self.root = root.resolve()
        self.accounting = accounting
        if len(str(self.root)) > LONGEST_ROOT:
            raise PrivateSlurmError(f"{self.root}: longer than {LONGEST_ROOT} characters, too long for Unix sockets")
        self.cluster = f"private{secrets.token_hex(3)}"
        self._settings = {
            "min_job_age": min_job_age,
            "message_timeout": message_timeout,
        }
        self._own_hostnames = own_hostnames
        self.programs = programs
        # A Slurm job this process may run in must not leak its SLURM_* and SBATCH_* into the jobs of this one.
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH_", "SRUN_", "SQUEUE_"))}
        self.env: Mapping[str, str] = {
            **outer,
            "PATH": search_path(programs),
            "SLURM_CONF": str(self.root / "slurm.conf"),
        }
        self._daemons = Daemons(self.root, self.env)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- using it -----------------------------------------------------------------------------------------------------

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60, cwd: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a Slurm command against this Slurm; a failure's message holds what the command said."""
        done = subprocess.run(
            argv, env=self.env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise PrivateSlurmError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def submit(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """The id of a job that runs `script`; its output goes to `cwd` (default: the root folder)."""
        out = self.run("sbatch", "--parsable", *options, cwd=cwd or self.root, stdin=f"#!/bin/bash\n{script}\n").stdout
        return out.strip().split(";")[0]

    def state(self, job: str) -> str:
        return self.run("squeue", "-h", "--states=all", "-j", job, "-o", "%T").stdout.strip()

    def wait_state(self, job: str, *states: str, timeout: float = 60) -> str:
        """Wait until the job is in one of these states; fail at once when it can no longer get there."""
        seen = ""

        def arrived() -> bool:
            nonlocal seen
            seen = self.state(job)
            if seen in FINAL and seen not in states:
                raise PrivateSlurmError(f"job {job} ended as {seen}, not {' or '.join(states)}")
            return seen in states

        self._daemons.wait(arrived, timeout, lambda: f"job {job} is {seen}, not {' or '.join(states)}")
        return seen

    def set_node(self, name: str, state: str, reason: str = "test") -> None:
        self.run("scontrol", "update", f"NodeName={name}", f"State={state}", f"Reason={reason}")

    def node_states(self) -> dict[str, str]:
        out = self.run("sinfo", "-h", "-p", "gpu", "-N", "-o", "%N %T", check=False).stdout
        return dict(line.split() for line in out.splitlines())

    def wait_idle(self, timeout: float = STARTUP_S) -> None:
        """Until both nodes answer and run nothing."""
        self._daemons.wait(
            lambda: self.node_states() == dict.fromkeys(NODES, "idle"), timeout, lambda: f"nodes: {self.node_states()}"
        )

    def kill_node(self, name: str) -> None:
        """As a power cut: slurmd and every process of the node's jobs die at once, and nobody tells slurmctld."""
        self._daemons.stop(name, signal.SIGKILL)

    def start_node(self, name: str) -> None:
        hostname = name if self._own_hostnames else socket.gethostname()
        place = [str(self.root / "hosts"), hostname, str(self.programs or "")]
        node = ["sh", "-c", NODE_SCRIPT, "sh", *place, "slurmd", "-D", "-N", name]
        # unshare stays as the parent of the namespace's process 1, and takes it down when it dies.
        self._daemons.spawn(name, ["unshare", *NAMESPACES, *node])

    def stop_slurmctld(self) -> None:
        self._daemons.stop("slurmctld", signal.SIGTERM)

    def start_slurmctld(self) -> None:
        # slurmctld must resolve n1 too: a srun inside a job gives it that name to call back.
        mount = 'mount --bind "$0" /etc/hosts && exec slurmctld -D'
        hosts = str(self.root / "hosts")
        self._daemons.spawn("slurmctld", ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, hosts])
        self._daemons.wait(lambda: self.run("scontrol", "ping", check=False).returncode == 0, STARTUP_S)

    def restart_slurmctld(self) -> None:
        self.stop_slurmctld()
        self.start_slurmctld()

    # -- starting and stopping ----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._check_host()
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "state").mkdir()
        hosts = Path("/etc/hosts").read_text(encoding="utf-8").rstrip("\n")
        names = "".join(f"{address} {name}\n" for name, address in NODES.items())
        self._write("hosts", f"{hosts}\n{names}", mode=0o644)
        ctld_port, dbd_port, sql_port, *node_ports = free_ports(3 + len(NODES))
        password = secrets.token_hex(16)
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={port} "
            f"CPUs=8 RealMemory=16000 Gres=gpu:{GPUS}"
            for (name, address), port in zip(NODES.items(), node_ports, strict=True)
        )
        accounting = (
            f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={dbd_port}\nAccountingStoragePass={self.root}/munge.sock\n"
            "AccountingStorageEnforce=associations,qos\nAccountingStorageTRES=gres/gpu"
            if self.accounting
            else "AccountingStorageType=accounting_storage/none"
        )
        plugins = f"PluginDir={self.programs}/plugins" if self.programs else ""
        values = {
            "root": self.root,
            "dbd_port": dbd_port,
            "sql_port": sql_port,
            "password": password,
            "plugins": plugins,
        }
        self._write(
            "slurm.conf",
            SLURM_CONF.format(
                **values,
                **self._settings,
                cluster=self.cluster,
                first_job=1 + secrets.randbelow(60_000),
                ctld_port=ctld_port,
                nodes=nodes,
                accounting=accounting,
            ),
            mode=0o644,
        )
        # Slurm 22.05's gpu plugin drops GPUs without a File ("Removing file-less GPU"), so they get null devices.
        for gpu in range(GPUS):
            os.mknod(self.root / f"gpu{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self._write("gres.conf", f"Name=gpu File={self.root}/gpu[0-{GPUS - 1}]\n", mode=0o644)
        self._write("cgroup.conf", "CgroupPlugin=cgroup/v1\n", mode=0o644)
        self._start_munged()
        if self.accounting:
            self._write("slurmdbd.conf", SLURMDBD_CONF.format(**values))
            self._start_accounting(sql_port, password)
        self.start_slurmctld()
        for name in NODES:
            self.start_node(name)
        self.wait_idle()

    def stop(self) -> None:
        """Stop every daemon, and with the nodes' namespaces every process of every job. The folder is the caller's."""
        for name in NODES:
            self._daemons.stop(name, signal.SIGKILL)
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._daemons.stop(name, signal.SIGTERM)

    def _check_host(self) -> None:
        missing = missing_binaries(accounting=self.accounting, programs=self.programs)
        if missing:
            packages = "slurm-wlm munge slurmdbd mariadb-server"
            raise PrivateSlurmError(f"not installed: {', '.join(missing)} (Debian: {packages})")
        if os.geteuid() != 0:
            raise PrivateSlurmError("a private Slurm needs root: its nodes are namespaces")
        probe = self.run("unshare", *NAMESPACES, "true", check=False)
        if probe.returncode:
            raise PrivateSlurmError(f"no namespaces here: {probe.stderr.strip()} (a container needs CAP_SYS_ADMIN)")

    def _start_munged(self) -> None:
        key = self.root / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {
            "--socket": "munge.sock",
            "--pid-file": "munge.pid",
            "--log-file": "munge.log",
            "--seed-file": "munge.seed",
        }
        paths = [f"{option}={self.root / name}" for option, name in files.items()]
        # --force: pytest's folders are mode 0700, which munged takes for a mistake.
        self._daemons.spawn("munged", ["munged", "--foreground", "--force", f"--key-file={key}", *paths])
        self._daemons.wait((self.root / "munge.sock").exists, STARTUP_S)

    def _start_accounting(self, sql_port: int, password: str) -> None:
        data, sql_socket = self.root / "mysql", self.root / "mysql.sock"
        # As root although mariadbd advises against it: another user could not enter pytest's folders, and a change of
        # user would cancel the death signal that Daemons.spawn sets.
        common = ["--no-defaults", "--user=root", f"--datadir={data}"]
        install = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self.run("mariadb-install-db", *common, *install, timeout=300)
        users = [f"'slurm'@'{host}'" for host in ("127.0.0.1", "localhost")]
        statements = ["CREATE DATABASE slurm_acct_db"]
        for user in users:  # "localhost" too: mariadbd may resolve the address back to a name
            statements += [f"CREATE USER {user} IDENTIFIED BY '{password}'", f"GRANT ALL ON slurm_acct_db.* TO {user}"]
        init = self._write("init.sql", ";\n".join([*statements, ""]))
        options = [f"--socket={sql_socket}", "--bind-address=127.0.0.1", f"--port={sql_port}", f"--init-file={init}"]
        # A test's database need not survive a power cut, and starts faster so.
        speed = ["--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900", "--skip-log-bin"]
        self._daemons.spawn(
            "mariadbd", ["mariadbd", *common, *options, *speed, f"--pid-file={self.root / 'mysql.pid'}"]
        )
        self._daemons.wait(lambda: _connects(sql_port), STARTUP_S)
        self._daemons.spawn("slurmdbd", ["slurmdbd", "-D"])
        add, here = ("sacctmgr", "-i", "add"), f"cluster={self.cluster}"
        self._daemons.wait(lambda: self.run(*add, "cluster", self.cluster, check=False).returncode == 0, STARTUP_S)
        self.run(*add, "qos", "high")
        self.run(*add, "account", "lab", here)
        self.run(*add, "user", "root", "account=lab", here, "defaultaccount=lab", "qos=normal,high")

    def _write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        path = self.root / name
        path.touch(mode=mode)
        path.write_text(text, encoding="utf-8")
        return path


def _connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
