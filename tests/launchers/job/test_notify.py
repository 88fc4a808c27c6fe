"""`notify`: who is told is named in the file, and the URL of a webhook is nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile

URL = "https://hooks.example.com/services/s3cr3t"
JOB = "name: a\nstage: sft\nmodel: m\ndata: {train: [d]}\n"


def load(folder: Path, text: str, *overrides: str) -> object:
    (folder / "job.yaml").write_text(JOB + text)
    return jobfile.load(folder / "job.yaml", overrides).resolved()["notify"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("secrets: [HOOK]\nnotify: {webhook: HOOK}", {"webhook": "HOOK", "command": None}),
        ("notify: {command: [mail, me]}", {"webhook": None, "command": ["mail", "me"]}),
    ],
)
def test_who_is_told(tmp_path: Path, text: str, expected: object) -> None:
    assert load(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("notify: {}", "notify: names nobody"),
        ("notify: {webhook: HOOK}", "a webhook is given by the name of a variable that is one of the job's `secrets`"),
        (f"notify: {{webhook: '{URL}'}}", "never by its URL"),
        (f"secrets: ['{URL}']\nnotify: {{webhook: '{URL}'}}", "never by its value"),
        (f"notify: {{webhook: ['{URL}']}}", "never by its URL"),
        (f"notify: {{webhok: '{URL}'}}", "did you mean `webhook`"),
        (f"notify: '{URL}'", "notify: "),
        ("notify: {command: []}", "notify.command"),
        ("notify: {command: mail}", "notify.command"),
    ],
)
def test_what_is_refused_is_not_repeated(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, text)
    assert rule in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("assignment", [f"notify.webhook={URL}", f"notify={{webhook: '{URL}'}}"])
def test_nor_is_one_of_the_command_line(tmp_path: Path, assignment: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, "", assignment)
    assert "s3cr3t" not in str(caught.value)
