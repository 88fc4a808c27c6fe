"""One log of all pods of a job, each line after its pod's name. Survives restarted containers and lost connections."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from ...errors import SchedulerError
from ..base import IsOver, Say, Wanted
from .client import Api, Object, Refused
from .status import container_of, index_of

POLL_SECONDS = 1.0
#: Empty polls before giving up: a worker waiting for a finished master never exits.
LAST_POLLS = 10
#: 400: the container is about to start, or the log of its predecessor is deleted. 404: the pod is gone.
_NO_LOG = (400, 404)
#: Node rank, pod, text.
Line = tuple[int, str, str]


class PodLog:
    """Reads the log of one pod incrementally. After a restart it gives the rest of the old container's log first."""

    def __init__(self, api: Api, pod: Object) -> None:
        self._api, self._name, self._container = api, pod["metadata"]["name"], container_of(pod)
        self._index = index_of(pod)
        self._last = ""  # time stamp of the last line read
        self._restarts = -1  # restart count of the container that it came from
        self._is_whole = False  # that container has ended and was read to its last line

    def lines(self, *, follow: bool) -> Iterator[Line]:
        """All lines not read yet; with follow also later ones until the container ends."""
        pod = self._api.read("Pod", self._name)
        restarts, runs = _attempt(pod, self._container) if pod else (None, False)
        if restarts is None:
            return  # the pod is gone, or its container has not started
        if restarts > self._restarts:
            if restarts > 0:
                yield from self._read(previous=True)
            self._restarts, self._is_whole = restarts, False
        if runs:
            yield from self._read(follow=follow)
        elif not self._is_whole:  # each request reads the log from its beginning, so make only one more
            self._is_whole = yield from self._read()

    def _read(self, **options: bool) -> Generator[Line, None, bool]:
        """The lines not read yet; returns whether there was a log."""
        read = self._last  # lines of one time stamp are in the same answer
        try:
            for stamped in self._api.log(self._name, self._container, **options):
                moment, _, line = stamped.partition(" ")
                if _key(moment) > _key(read):
                    self._last = moment
                    yield self._index, self._name, line
        except Refused as refused:
            if refused.code not in _NO_LOG:
                raise
            return False
        return True


def _key(moment: str) -> tuple[str, str]:
    """Sort key of an RFC 3339 time stamp, whose fraction has no fixed number of digits."""
    seconds, _, fraction = moment.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


def has_begun(pod: Object) -> bool:
    """Whether there is a log to read."""
    return _attempt(pod, container_of(pod))[0] is not None


def _attempt(pod: Object, container: str) -> tuple[int | None, bool]:
    """(restart count, None if the container has never run; whether it runs now)."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if status["name"] == container:
            state, restarts = status.get("state") or {}, int(status.get("restartCount", 0))
            has_begun = restarts or "running" in state or "terminated" in state
            return restarts if has_begun else None, "running" in state
    return None, False


def tail(
    api: Api,
    pods: list[Object],
    count: int | None,
    wanted: Wanted,
    say: Say,
    logs: dict[str, PodLog] | None = None,
) -> Iterator[str]:
    """The last `count` wanted lines of all pods, pod after pod; with None all lines, streamed.

    Reports a pod whose log cannot be read, such as one on a dead node. logs: filled with uid → PodLog, to read on from.
    """
    found = _wanted_lines(api, pods, wanted, say, {} if logs is None else logs)
    return found if count is None else iter(deque(found, maxlen=count))


def _wanted_lines(api: Api, pods: list[Object], wanted: Wanted, say: Say, logs: dict[str, PodLog]) -> Iterator[str]:
    for pod in sorted(pods, key=index_of):
        log = logs[pod["metadata"]["uid"]] = PodLog(api, pod)
        try:
            yield from (_shown(*line) for line in log.lines(follow=False) if _is_wanted(line, wanted))
        except Refused as refused:
            if refused.code == 403:
                raise  # no right to read logs: the other pods would fail too
            say(f"{pod['metadata']['name']}: its log cannot be read: {refused.message}")


def follow(
    api: Api,
    pods: Callable[[], list[Object]],
    count: int | None,
    wanted: Wanted,
    is_over: IsOver,
    say: Say,
) -> Iterator[str]:
    """The last `count` wanted lines, then later ones of all pods, until `is_over()` and all logs are read or silent."""
    logs: dict[str, PodLog] = {}
    yield from tail(api, pods(), count, wanted, say, logs)
    lines: queue.Queue[Line] = queue.Queue()
    readers: dict[str, threading.Thread] = {}
    stop = threading.Event()

    def read(pod: str, log: PodLog) -> None:
        reported = ""
        while True:
            last, trouble = stop.is_set(), ""  # before reading, so that nothing written before the end is missed
            try:
                for line in log.lines(follow=not last):
                    lines.put(line)
            except (SchedulerError, Refused) as error:
                trouble = str(error).splitlines()[0]
                if isinstance(error, Refused) and error.code == 403:
                    say(f"{pod}: {trouble}")
                    return
            if trouble and trouble != reported:
                say(f"{pod}: {trouble}; reading on when it is back")
            reported = trouble
            if last:
                return
            stop.wait(POLL_SECONDS)

    def begin() -> None:
        try:
            for pod in pods():
                uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
                if uid not in readers:
                    log = logs.setdefault(uid, PodLog(api, pod))
                    readers[uid] = threading.Thread(target=read, args=(name, log), daemon=True)
                    readers[uid].start()
        except (SchedulerError, Refused):
            return  # `is_over` queries the same server and reports the failure

    while not is_over():
        begin()
        yield from _taken(lines, wanted, POLL_SECONDS)
    begin()
    stop.set()
    quiet = 0
    while quiet < LAST_POLLS and any(thread.is_alive() for thread in readers.values()):
        found = list(_taken(lines, wanted, POLL_SECONDS / 2))
        quiet = 0 if found else quiet + 1
        yield from found
    yield from _taken(lines, wanted, 0)


def _taken(lines: queue.Queue[Line], wanted: Wanted, seconds: float) -> Iterator[str]:
    """The wanted lines that arrive within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        if _is_wanted(line, wanted):
            yield _shown(*line)


def _is_wanted(line: Line, wanted: Wanted) -> bool:
    index, _, text = line
    return wanted(f"{index}: {text}")  # in the form of `srun --label`, which the selector reads


def _shown(index: int, pod: str, text: str) -> str:
    del index
    return f"{pod}: {text}\n"


def keep(api: Api, pods: list[Object], path: Path, say: Say) -> None:
    """Save the logs that the pods still have to a file: they are deleted with the pods.

    A file that is already as large stays: while a job is being deleted, its pods and their logs become fewer. Raises
    SchedulerError if a pod's log cannot be read, after those of the others were saved.
    """
    unread: list[str] = []
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        new = Path(folder) / path.name
        with new.open("w", encoding="utf-8", newline="") as file:
            file.writelines(tail(api, pods, None, lambda _: True, unread.append))
        if new.stat().st_size > (path.stat().st_size if path.is_file() else 0):
            new.replace(path)
            say(f"log: {path}")
        else:
            say(f"log: the pods have no more than {path} has already")
    if unread:
        raise SchedulerError("\n".join(unread) + "\n    remedy: try again; without --keep what it wrote is given up")
