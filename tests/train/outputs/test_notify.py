"""Notifications: what is told, to a real HTTP server and a real command, and that no receiver harms the run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train import finish
from alignlaunch.train.config import Data, Notify, TrainConfig
from alignlaunch.train.outputs import notifier
from alignlaunch.train.outputs.notify import Telling
from alignlaunch.train.processes import requests

SECRET = "/services/T0/s3cr3t"


class Receiver(ThreadingHTTPServer):
    """A server on loopback that keeps what is posted to it; it answers with `code`, once `answers` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.code = 200
        self.answers = threading.Event()
        self.answers.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for _, message in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.server.answers.wait(60)
        self.send_response(self.server.code)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.answers.set()
    server.shutdown()
    server.server_close()


def job(folder: Path, **to: Any) -> TrainConfig:
    data = Data(train=["d"])
    return TrainConfig(name="tiny", stage="sft", model="m", data=data, output_dir=str(folder), notify=Notify(**to))


def deliver(env: dict[str, str], **to: Any) -> tuple[str, float]:
    """What the process that delivers says, and how long it takes."""
    asked = {"webhook": None, "command": None, "message": {"text": "hello"}} | to
    start = time.monotonic()
    command = [sys.executable, "-m", "alignlaunch.train.outputs.notifier"]
    done = subprocess.run(
        command, input=json.dumps(asked), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert SECRET not in done.stderr
    return done.stderr, time.monotonic() - start


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if "notify" in line]


def test_a_message_reaches_the_webhook_and_the_command(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOK", receiver.url)
    (tmp_path / ".run").write_text("/shared/runs/tiny-1")
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "max_steps": 9, "time": 5.0}\n')
    one = Telling()
    one.start(job(tmp_path, webhook="HOOK", command=["sh", "-c", f"cat > '{tmp_path}/got'"]), "/shared/runs/tiny-1")
    one.ended(1, again=True, cause="killed")
    ((path, message),) = receiver.got
    assert path == SECRET
    assert message == json.loads((tmp_path / "got").read_text())
    host = message.pop("host")
    assert message == {
        "text": f"tiny: failed and tried again (killed) at step 7 of 9; run tiny-1, on {host}",
        "run": "tiny",
        "id": "tiny-1",
        "state": "failed and tried again",
        "step": 7,
        "steps": 9,
        "cause": "killed",
    }
    assert told(capfd) == []


@pytest.mark.parametrize(
    ("code", "stopped", "again", "ends", "state"),
    [
        (0, False, False, ("completed",), "completed"),
        (75, True, True, ("stopped", "failed"), "stopped and requeued"),
        (143, True, False, ("stopped", "failed"), "stopped"),
        (1, False, False, ("stopped", "failed"), "failed"),
        (1, False, False, ("completed",), None),
        (0, False, False, ("stopped", "failed"), None),
    ],
)
def test_each_end_is_told_by_one_process(
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    stopped: bool,
    again: bool,
    ends: tuple[str, ...],
    state: str | None,
) -> None:
    """Also where another run's records lie in the folder: their step is not told."""
    monkeypatch.setenv("HOOK", receiver.url)
    (tmp_path / ".run").write_text("another")
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "max_steps": 9, "time": 5.0}\n')
    if stopped:
        (tmp_path / requests.STOPPED).write_text("7 checkpoint-7\n")
    one = Telling()
    one.start(job(tmp_path, webhook="HOOK"), "none", ends=ends)
    one.ended(code, again=again)
    assert [message["state"] for message in receiver.messages] == ([state] if state else [])
    assert all((message["id"], message["steps"]) == ("by hand", 0) for message in receiver.messages)


def test_nobody_is_told_unless_the_job_says_so(tmp_path: Path) -> None:
    quiet = TrainConfig(name="tiny", stage="sft", model="m", data=Data(train=["d"]), output_dir=str(tmp_path))
    one = Telling()
    one.tell("started", 0, 1)
    one.start(quiet, "a")
    one.tell("started", 0, 1)
    one.ended(finish.FAILED)
    assert one._delivering == []


def test_telling_does_not_wait(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", receiver.url)
    receiver.answers.clear()
    one = Telling()
    one.start(job(tmp_path, webhook="HOOK"), "a")
    one.tell("started", 0, 9)
    (process,) = one._delivering
    assert process.poll() is None
    receiver.answers.set()
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "HOOK is not set here"),
        ("", "HOOK is not set here"),
        ("file:///etc/passwd" + SECRET, "HOOK is no http:// or https:// URL"),
        ("ftp://x" + SECRET, "HOOK is no http:// or https:// URL"),
        ("http://127.0.0.1:1" + SECRET, "Connection refused"),
        ("http://127.0.0.1:x" + SECRET, "InvalidURL"),
        ("http://[::1" + SECRET, "ValueError"),
        ("http://127.0.0.1:1/ü" + SECRET, "UnicodeEncodeError"),
    ],
)
def test_a_webhook_that_cannot_be_reached(url: str | None, said: str) -> None:
    text, _ = deliver({} if url is None else {"HOOK": url}, webhook="HOOK")
    assert text == f"alignlaunch: notify: webhook: {said}; the run goes on\n"


def test_a_webhook_that_refuses(receiver: Receiver) -> None:
    receiver.code = 404
    text, _ = deliver({"HOOK": receiver.url}, webhook="HOOK")
    assert text == "alignlaunch: notify: webhook: the server answers 404; the run goes on\n"


def test_receivers_that_hang_are_left_in_time(tmp_path: Path, receiver: Receiver) -> None:
    """Both at once; what the command has started is ended with it."""
    receiver.answers.clear()
    command = ["sh", "-c", f"sleep 300 & echo $! > '{tmp_path}/pid'; wait"]
    text, seconds = deliver({"HOOK": receiver.url, "PATH": "/usr/bin:/bin"}, webhook="HOOK", command=command)
    assert sorted(text.splitlines()) == [
        "alignlaunch: notify: command: sh: no end after 10 s; the run goes on",
        "alignlaunch: notify: webhook: no answer after 10 s; the run goes on",
    ]
    assert seconds >= notifier.LIMIT
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo s3cr3t >&2; exit 3"], "sh: exit code 3"),
        (["./nowhere"], "./nowhere: No such file or directory"),
        (["sh", "-c", "kill -9 $$"], "sh: exit code -9"),
        (["true"], ""),  # and does not read the message
    ],
)
def test_a_command_that_fails(command: list[str], said: str) -> None:
    text, _ = deliver({"PATH": "/usr/bin:/bin"}, command=command)
    assert text == (f"alignlaunch: notify: command: {said}; the run goes on\n" if said else "")
