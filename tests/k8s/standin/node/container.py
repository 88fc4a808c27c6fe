"""One container of a pod over all its attempts: pulled, configured, started, watched, started again."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.k8s.standin.api.registry import now
from tests.k8s.standin.api.storage import Store
from tests.k8s.standin.objects.quantities import quantity
from tests.k8s.standin.objects.resources import Obj
from tests.support.network import PodSandbox

from .images import Image
from .logs import log_file
from .podenv import ConfigError, environment, expanded
from .sandbox import ContainerSpec, first_process, memory_of, send, start
from .volumes import Volumes

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 5.0  # real kubelets: 10 s to 5 min
MEMORY_INTERVAL_S = 0.1

#: Tells an event of the pod: reason, message, whether it is a warning.
Tell = Callable[[str, str, bool], None]


class Container:
    """`state` and `last_state` are those of the pod's status. All methods are called by the pod's own thread."""

    def __init__(
        self, store: Store, pod: Obj, spec: Obj, *, images: dict[str, Image], logs: Path, folder: Path, tell: Tell
    ) -> None:
        self.name = str(spec["name"])
        self.spec = spec
        self.state: Obj = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Obj = {}
        self.restarts = 0
        self.done = False  # ended, and not to be started again
        self.container_id = ""
        self._store = store
        self._pod = pod
        self._images = images
        self._logs = logs
        self._folder = folder
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._policy = str(pod["spec"]["restartPolicy"])
        self._failures = 0  # in a row, for the backoff
        self._retry_at = 0.0
        self._memory_at = 0.0
        self._out_of_memory = False
        self._ended_before: Obj = {}  # the last attempt's end

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def entrance(self) -> int | None:
        """The number of its process 1; None: it does not run."""
        process = self._process
        return first_process(process) if process else None

    @property
    def exit_code(self) -> int:
        """Of the last attempt."""
        return int(self._ended_before["terminated"]["exitCode"]) if self._ended_before else 0

    def step(self, volumes: Volumes, sandbox: PodSandbox) -> None:
        """Do what is due now: start it, notice its end, or kill it for its memory."""
        if self._process is not None:
            self.notice_end()
            self._watch_memory()
        elif not self.done and time.monotonic() >= self._retry_at:
            self._try_to_start(volumes, sandbox)

    def give_up(self) -> None:
        """This attempt is the last one."""
        self._policy = "Never"

    def notice_end(self) -> None:
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            self._ended(code if code >= 0 else 128 - code)

    def send(self, signum: signal.Signals) -> None:
        if self._process is not None:
            send(self._process, signum)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _try_to_start(self, volumes: Volumes, sandbox: PodSandbox) -> None:
        image = self._pull()
        if image is None:
            return
        try:
            spec = self._configure(image, volumes)
        except ConfigError as error:
            self._wait("CreateContainerConfigError", str(error))
            self._tell("Failed", f"Error: {error}", True)
            return
        if self._ended_before:
            self.restarts += 1
            self.last_state = self._ended_before
        seed = f"{self._pod['metadata']['uid']}/{self.name}/{self.restarts}"
        self.container_id = "containerd://" + hashlib.sha256(seed.encode()).hexdigest()
        log = log_file(self._logs, self.container_id)
        log.touch()
        if shutil.which(spec.argv[0], path=spec.env.get("PATH")) is None:
            self._refuse_to_start(spec.argv[0])
            return
        self._process = start(spec, sandbox)
        self.state = {"running": {"startedAt": now()}}
        self._pump = threading.Thread(target=_pump, args=(self._process, log), daemon=True)
        self._pump.start()
        self._tell("Started", f"Started container {self.name}", False)

    def _pull(self) -> Image | None:
        name = self.spec["image"]
        image = self._images.get(name)
        if image is not None:
            return image
        if self.spec["imagePullPolicy"] == "Never":
            self._wait("ErrImageNeverPull", f'Container image "{name}" is not present with pull policy of Never')
            return None
        why = f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
        error = f"rpc error: code = NotFound desc = {why}"
        if (self.state.get("waiting") or {}).get("reason") == "ErrImagePull":
            message = f'Back-off pulling image "{name}"'
            self._tell("BackOff", message, False)
            self._tell("Failed", "Error: ImagePullBackOff", True)
            self._wait("ImagePullBackOff", f"{message}: ErrImagePull: {error}")
        else:
            self._tell("Pulling", f'Pulling image "{name}"', False)
            self._tell("Failed", f'Failed to pull image "{name}": {error}', True)
            self._tell("Failed", "Error: ErrImagePull", True)
            self._wait("ErrImagePull", error)
        return None

    def _configure(self, image: Image, volumes: Volumes) -> ContainerSpec:
        """What to run; ConfigError where the pod's specification cannot be met."""
        spec, pod = self.spec, self._pod["spec"]
        env = environment(self._store, self._pod, spec, image.env)
        argv = [expanded(word, env) for word in [*(spec.get("command") or []), *(spec.get("args") or [])]]
        if not argv:
            raise ConfigError("no command specified")
        security = {**(pod["securityContext"] or {}), **(spec.get("securityContext") or {})}
        uid = security.get("runAsUser", image.uid)
        if security.get("runAsNonRoot") and uid == 0:
            where = f"{self._pod['metadata']['name']}_{self._pod['metadata']['namespace']}"
            what = f'(pod: "{where}({self._pod["metadata"]["uid"]})", container: {self.name})'
            raise ConfigError(f"container has runAsNonRoot and image will run as root {what}")
        groups = [
            *([security["fsGroup"]] if "fsGroup" in security else []),
            *(security.get("supplementalGroups") or []),
        ]
        return ContainerSpec(
            argv=argv,
            env=env,
            working_dir=spec.get("workingDir") or image.working_dir,
            uid=uid,
            gid=security.get("runAsGroup", uid),
            groups=groups,
            mounts=list(volumes.mounts(spec)),
            hosts=self._folder.parent / "hosts",
            may_gain_privileges=security.get("allowPrivilegeEscalation", True),
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            drop_all_capabilities="ALL" in ((security.get("capabilities") or {}).get("drop") or []),
            folder=self._folder / self.name,
        )

    def _refuse_to_start(self, command: str) -> None:
        why = f'exec: "{command}": executable file not found in $PATH: unknown'
        message = f"failed to create containerd task: failed to create shim task: OCI runtime create failed: {why}"
        self._tell("Failed", f"Error: {message}", True)
        self.state = {"running": {"startedAt": now()}}
        self._ended(128, "StartError", message)

    # -- ending -------------------------------------------------------------------------------------------------------

    def _watch_memory(self) -> None:
        limit = (self.spec["resources"].get("limits") or {}).get("memory")
        if self._process is None or limit is None or time.monotonic() < self._memory_at:
            return
        self._memory_at = time.monotonic() + MEMORY_INTERVAL_S
        if memory_of(self._process) > quantity(limit):
            self._out_of_memory = True
            send(self._process, signal.SIGKILL)

    def _ended(self, code: int, reason: str = "", message: str = "") -> None:
        if self._pump is not None:
            self._pump.join()  # the log is complete before the status says so
        self._process, self._pump = None, None
        reason = reason or ("OOMKilled" if self._out_of_memory else "Error" if code else "Completed")
        self._out_of_memory = False
        ended = {"exitCode": code, "reason": reason, "startedAt": self.state["running"]["startedAt"]}
        ended |= {"finishedAt": now(), "containerID": self.container_id}
        self.state = self._ended_before = {"terminated": ended | ({"message": message} if message else {})}
        is_init = any(c["name"] == self.name for c in self._pod["spec"].get("initContainers") or [])
        again = code != 0 if self._policy == "OnFailure" or is_init else True
        self.done = self._policy == "Never" or not again
        if self.done:
            return
        if self._failures:  # the first restart is immediate
            where = f"{self._pod['metadata']['name']}_{self._pod['metadata']['namespace']}"
            where = f"{where}({self._pod['metadata']['uid']})"
            self.last_state = self._ended_before
            message = f"back-off {10 * 2 ** (self._failures - 1)}s restarting failed container={self.name} pod={where}"
            self._tell("BackOff", f"Back-off restarting failed container {self.name} in pod {where}", True)
            self._wait("CrashLoopBackOff", message)
        self._failures += 1

    def _wait(self, reason: str, message: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._retry_at = time.monotonic() + min(FIRST_BACKOFF_S * 2**self._failures, LAST_BACKOFF_S)

    def status(self) -> Obj:
        """An entry of containerStatuses."""
        ready = self.running or (self.done and not self.exit_code and "terminated" in self.state)
        entry = {"name": self.name, "image": self.spec["image"], "imageID": "", "ready": ready, "started": self.running}
        more = {"containerID": self.container_id} if self.container_id else {}
        return {**entry, "restartCount": self.restarts, "state": self.state, "lastState": self.last_state, **more}


def _pump(process: subprocess.Popen[bytes], log: Path) -> None:
    """Write what the container says, each line with its time."""
    assert process.stdout is not None
    with process.stdout, log.open("ab", buffering=0) as out:
        for line in process.stdout:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            tag = b"F" if line.endswith(b"\n") else b"P"
            out.write(b"%s %s %s\n" % (stamp.encode(), tag, line.removesuffix(b"\n")))
