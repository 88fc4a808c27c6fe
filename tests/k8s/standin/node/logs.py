"""Container logs: one file for each attempt, and the options with which they are read.

As container runtimes write them: `TIME F TEXT` for each line, `TIME P TEXT` for one that was cut off before its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.resources import Obj

FOLLOW_INTERVAL_S = 0.1


def log_file(root: Path, container_id: str) -> Path:
    return root / f"{container_id.removeprefix('containerd://')}.log"


class LogReader:
    """One request for the log of one container; ApiError 400 where there is none to be had."""

    def __init__(self, root: Path, pod: Obj, query: Mapping[str, str]) -> None:
        self._query = query
        self._previous = query.get("previous") == "true"
        self.follow = query.get("follow") == "true" and not self._previous
        self.container = _container(pod, query.get("container", ""))
        self._path = self._find(root, pod)
        self._position = 0

    def _find(self, root: Path, pod: Obj) -> Path | None:
        """The file; None for a pod without a node, whose log is empty."""
        if not pod["spec"].get("nodeName"):
            return None
        state = container_status(pod, self.container)
        now, last = state.get("state") or {}, (state.get("lastState") or {}).get("terminated")
        if self._previous and not last:
            name = pod["metadata"]["name"]
            raise status.bad_request(f'previous terminated container "{self.container}" in pod "{name}" not found')
        started = "running" in now or now.get("terminated", {}).get("containerID")
        if started and not self._previous:
            return log_file(root, state["containerID"])
        if last:  # asked for, or between two attempts
            return log_file(root, last["containerID"])
        raise _waiting(pod, self.container, (now.get("waiting") or {}).get("reason", "ContainerCreating"))

    def read(self) -> bytes:
        """What the log holds now, as the query wants it."""
        data = self._complete_lines()
        lines = [line for line in data.splitlines(keepends=True) if self._is_recent(line)]
        if tail := self._query.get("tailLines"):
            lines = lines[-int(tail) :] if int(tail) else []
        shown = b"".join(map(self._shown, lines))
        return shown[: int(self._query.get("limitBytes", len(shown)))]

    async def lines(self, is_running: Callable[[], bool]) -> AsyncIterator[bytes]:
        """What `read` gives and then what is written, until the container has ended."""
        yield self.read()
        alive = self._path is not None
        while alive:
            alive = is_running()  # asked first: what is written before the end is read after it
            if new := self._complete_lines():
                yield b"".join(map(self._shown, new.splitlines(keepends=True)))
            elif alive:
                await asyncio.sleep(FOLLOW_INTERVAL_S)

    def _complete_lines(self) -> bytes:
        if self._path is None:
            return b""
        with self._path.open("rb") as log:
            log.seek(self._position)
            data = log.read()
        data = data[: data.rfind(b"\n") + 1]
        self._position += len(data)
        return data

    def _is_recent(self, line: bytes) -> bool:
        since = self._query.get("sinceTime", "")
        if seconds := self._query.get("sinceSeconds"):
            since = (datetime.now(UTC) - timedelta(seconds=int(seconds))).isoformat()
        return not since or datetime.fromisoformat(line.split(b" ", 1)[0].decode()) >= datetime.fromisoformat(since)

    def _shown(self, line: bytes) -> bytes:
        stamp, tag, text = line.split(b" ", 2)
        text = text.removesuffix(b"\n") if tag == b"P" else text
        return b"%s %s" % (stamp, text) if self._query.get("timestamps") == "true" else text


def container_status(pod: Obj, name: str) -> Obj:
    """The status of a container or init container; empty before there is one."""
    state = pod["status"]
    listed = [*state.get("initContainerStatuses", []), *state.get("containerStatuses", [])]
    found: Obj = next((one for one in listed if one["name"] == name), {})
    return found


def is_running(pod: Obj | None, container: str, uid: str) -> bool:
    same = pod is not None and pod["metadata"]["uid"] == uid
    return pod is not None and same and "running" in container_status(pod, container).get("state", {})


def _waiting(pod: Obj, container: str, reason: str) -> status.ApiError:
    words = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    what = f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start'
    return status.bad_request(f"{what}: {words.get(reason, reason)}")


def _container(pod: Obj, asked: str) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    init, main = [[c["name"] for c in spec.get(part) or []] for part in ("initContainers", "containers")]
    if asked and asked not in [*init, *main]:
        raise status.bad_request(f"container {asked} is not valid for pod {name}")
    if asked or len(main) == 1:
        return asked or str(main[0])
    choices = f"choose one of: [{' '.join(main)}]" + (
        f" or one of the init containers: [{' '.join(init)}]" if init else ""
    )
    raise status.bad_request(f"a container name must be specified for pod {name}, {choices}")
