"""`alignlaunch shell` into a run of this machine."""

from __future__ import annotations

from pathlib import Path

from .stub_steps import call, status, until
from .test_sweeps import write_job


def test_a_shell_in_the_job_s_folder_with_the_run_s_python(place: Path) -> None:
    write_job(place, env={"ACT": "sleep"}, nproc_per_node=2)
    call(place, "local", "job.yaml", "--cluster", "stub", "--detach")
    until(lambda: status(place, "last")[0][1] == "RUNNING")
    asked = ("--", "bash", "-c", 'echo "$PWD ${PATH%%:*} $ALIGNLAUNCH_RUN_DIR $0"', "a  b")
    there = place / "elsewhere"
    there.mkdir()
    said = call(there, "shell", "last", "--rank", "1", *asked, XDG_STATE_HOME=str(place / "state")).stdout
    folder = next(place.glob("runs/tiny-*"))
    assert said.split(" ", 1)[0] == str(place)
    assert said.endswith(f" {folder} a  b\n")
    assert Path(said.split()[1], "python3").exists()
    assert call(place, "shell", "last", "--", "sh", "-c", "exit 9", code=9).stdout == ""
    assert "the run has ranks 0 to 1" in call(place, "shell", "last", "--rank", "2", code=2).stderr
    call(place, "cancel", "last")
    assert "a shell needs a run that is running" in call(place, "shell", "last", code=2).stderr
