"""The process that delivers one message: `python -m alignlaunch.train.outputs.notifier`, started by `notify`.

What to deliver is one line of JSON on its standard input; the URL of a webhook comes by an environment variable. Each
delivery that fails costs one line in the log, without the URL and without what a command printed, as both may hold
secrets. It ends in time whatever the receiver does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

#: Seconds that a delivery may take.
LIMIT = 10.0


def main() -> None:
    """Deliver the message, to all who are named at the same time."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the training process blocks it
    asked = json.load(sys.stdin)
    body = json.dumps(asked["message"], ensure_ascii=False).encode()
    deliveries: dict[str, Callable[[], str]] = {}
    if asked["webhook"]:
        deliveries["webhook"] = lambda: _post(asked["webhook"], body)
    if asked["command"]:
        deliveries["command"] = lambda: _run(asked["command"], body)
    # Threads, as nothing ends a look-up of a host name that hangs but the end of the process.
    threads = [threading.Thread(target=_deliver, args=one, daemon=True) for one in deliveries.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LIMIT + 1
    for name, thread in zip(deliveries, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            _say(name, f"no end after {LIMIT:.0f} s")
    os._exit(0)


def _deliver(name: str, deliver: Callable[[], str]) -> None:
    if fault := deliver():
        _say(name, fault)


def _say(name: str, fault: str) -> None:
    # One write, so that two lines do not mix.
    sys.stderr.write(f"alignlaunch: notify: {name}: {fault}; the run goes on\n")
    sys.stderr.flush()


def _post(variable: str, body: bytes) -> str:
    """Post the message. Returns what went wrong, or an empty text."""
    url = os.environ.get(variable, "")
    try:
        if not url:
            return f"{variable} is not set here"
        if urlsplit(url).scheme not in ("http", "https"):
            return f"{variable} is no http:// or https:// URL"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see above
        with urllib.request.urlopen(request, timeout=LIMIT):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return f"the server answers {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        return _words(error)


def _words(error: Exception) -> str:
    """What an error is, without its own text, in which the URL may stand."""
    reason: Any = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer after {LIMIT:.0f} s"
    return getattr(reason, "strerror", None) or type(reason if isinstance(reason, Exception) else error).__name__


def _run(command: list[str], body: bytes) -> str:
    """Run a command with the message on its standard input. Returns what went wrong, or an empty text."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"{command[0]}: {_words(error)}"
    try:
        process.communicate(body, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return f"{command[0]}: no end after {LIMIT:.0f} s"
    return f"{command[0]}: exit code {process.returncode}" if process.returncode else ""


if __name__ == "__main__":
    main()
