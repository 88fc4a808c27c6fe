"""What Slurm's commands print is read right: on what several of its versions really printed, byte for byte."""

from __future__ import annotations

import os
import signal

import pytest

from alignlaunch.launchers.backends.slurm import answers, client, submission
from alignlaunch.launchers.errors import SchedulerError
from alignlaunch.launchers.runs.records import Status

from .recorded import OWN, VERSIONS, Answer, answer

every_version = pytest.mark.parametrize("version", VERSIONS)
TERM, SEGV = 128 + signal.SIGTERM, 128 + signal.SIGSEGV
#: name → state, exit code, reason, nodes. A signal's reason is told in other words since 23.02.
ENDED = {
    "depkill": ("CANCELLED", 0, "DependencyNeverSatisfied", ""),
    "cancelrun": ("CANCELLED", TERM, "", "n1"),
    "held": ("CANCELLED", 0, "JobHeldUser", ""),
    "done": ("COMPLETED", 0, "", "n[1-2]"),
    "a|b c": ("COMPLETED", 0, "", "n1"),
    "failed": ("FAILED", 3, "NonZeroExitCode", "n1"),
    "termself": ("FAILED", TERM, None, "n1"),
    "segv": ("FAILED", SEGV, None, "n1"),
}
OPEN = {
    "bigpending": ("PENDING", None, "Resources", ""),
    "dep": ("PENDING", None, "DependencyNeverSatisfied", ""),
    "arr": ("PENDING", None, "Priority", ""),
    "requeue": ("PENDING", None, "Priority", ""),
    "running": ("RUNNING", None, "", "n1"),
}
LATE = {
    "during": ("RUNNING", None, "", "n1"),
    "later": ("RUNNING", None, "", "n1"),
    "requeued": ("PENDING", None, "BeginTime", ""),
}
SIGNALLED = {"JobLaunchFailure", "RaisedSignal:15(Terminated)", "RaisedSignal:11(Segmentation fault)"}


def as_row(status: Status) -> tuple[str, int | None, str | None, str]:
    return status.state, status.exit_code, None if status.reason in SIGNALLED else status.reason, status.nodes


@every_version
@pytest.mark.parametrize("moment", LATE)
def test_squeue(version: str, moment: str) -> None:
    said = answer(version, f"squeue-{moment}")
    told = answers.squeue(said.stdout, said.fields)
    assert {job.free_text: as_row(job.status) for job in told} == ENDED | OPEN | {"late": LATE[moment]}
    assert len({job.id for job in told}) == len(told) == 14


@every_version
@pytest.mark.parametrize("moment", LATE)
def test_sacct(version: str, moment: str) -> None:
    said = answer(version, f"sacct-{moment}")
    if said.exit_code:
        pytest.skip("22.05 refuses the field Restarts; test_what_alignlaunch_asks_for has its answers")
    told = {job.free_text: job.status for job in answers.sacct(said.stdout, said.fields)}
    assert len(told) == 14
    assert (told["failed"].state, told["failed"].exit_code) == ("FAILED", 3)
    assert (told["termself"].exit_code, told["segv"].exit_code, told["a|b c"].exit_code) == (TERM, SEGV, 0)
    assert (told["cancelrun"].state, told["cancelrun"].nodes) == ("CANCELLED", "n1")
    assert (told["held"].state, told["held"].nodes) == ("CANCELLED", "")
    assert {name: told[name].state for name in OPEN} == {name: row[0] for name, row in OPEN.items()}
    assert told["late"].state == LATE[moment][0]


@every_version
def test_a_forgotten_job_is_refused_in_the_same_words(version: str) -> None:
    said = answer(version, "squeue-unknown")
    assert (said.stdout, said.exit_code) == ("", 1)
    assert answers.NO_SUCH_JOB in said.stderr


@every_version
def test_scontrol_shows_name_command_and_log(version: str) -> None:
    for name in ("running", "completed", "failed3", "term", "cancelled_running", "bigpending"):
        said = answer(version, f"scontrol-{name}")
        job_id = said.command.split()[-1]
        (job,) = answers.shown_jobs(said.stdout)
        assert job.name == {"completed": "done", "failed3": "failed", "term": "termself"}.get(
            name, name.replace("cancelled_running", "cancelrun")
        )
        assert (job.command, job.log) == ("/shared/run/j.sh", f"/shared/run/{job_id}.out")
        assert job.submitted_at.startswith("2026-11-28T02:5")
        assert not job.is_array
    (array,) = answers.shown_jobs(answer(version, "scontrol-array").stdout)
    assert (array.name, array.is_array) == ("arr", True)


@every_version
def test_the_cluster_is_named_by_its_configuration(version: str) -> None:
    said = answer(version, "scontrol-config-head").stdout
    assert answers.cluster_name(said) == said.split()[2]
    assert answers.cluster_name("slurm_load_ctl_conf error: Unable to contact slurm controller") == ""


@every_version
def test_what_sbatch_says_of_a_script_that_it_took(version: str) -> None:
    for name in ("sbatch-ok", "sbatch-too-many-nodes"):
        said = answer(version, name).stdout
        assert answers.submitted(said) == answers.Submitted(said.split()[-1], "", "")
    assert answers.submitted(answer(version, "sbatch-wrong-partition").stderr) is None


def test_sbatch_has_more_to_say() -> None:
    said = "sbatch: lua: job 5 is charged to lab\nSubmitted batch job 4711 on cluster main\nsbatch: have a nice day\n"
    words = "sbatch: lua: job 5 is charged to lab\nsbatch: have a nice day"
    assert answers.submitted(said) == answers.Submitted("4711", "main", words)
    assert answers.submitted("sbatch: error: job 5 is not taken\n") is None


def test_exit_codes_of_both_kinds() -> None:
    for code in (0, 1, 75, 255):
        assert answers.exit_code(f"{code}:0") == answers.exit_code(str(code << 8)) == code
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        assert answers.exit_code(f"0:{number}") == answers.exit_code(str(int(number))) == 128 + number
        assert answers.exit_code(str(number | 0x80)) == 128 + number  # with a core dump
    assert answers.exit_code(str(os.waitstatus_to_exitcode(0x4B00) << 8)) == 75
    for bad in ("", "None", "0:", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match=r"invalid literal|exit code"):
            answers.exit_code(bad)


def _of(version: str) -> Answer:
    return answer(version, "squeue-during")


def test_a_heading_and_empty_lines_are_no_jobs() -> None:
    said = _of("slurm-22.05")
    assert answers.squeue(f"CLUSTER: main\n{said.stdout}\nCLUSTER: other\n", said.fields) == answers.squeue(
        said.stdout, said.fields
    )


@every_version
def test_a_line_of_another_kind_is_told_not_guessed(version: str) -> None:
    said = _of(version)
    for line in ("squeue: slow today", "1|a|RUNNING|", said.stdout.splitlines()[0].replace("|0", "|zero")):
        with pytest.raises(SchedulerError, match="answered what alignlaunch cannot read") as error:
            answers.squeue(f"{line}\n", said.fields)
        assert "Traceback" not in str(error.value)


@every_version
def test_nodes_and_limits_of_each_partition(version: str) -> None:
    """The recording has more fields than alignlaunch asks for."""
    said = answer(version, "sinfo").stdout
    asked = "".join("|".join(line.split("|")[i] for i in (0, 2, 3, 6, 8)) + "\n" for line in said.splitlines())
    kinds = answers.sinfo(asked)
    assert {(kind.partition, kind.is_default, kind.limit) for kind in kinds} == {
        ("gpu", True, "1-00:00:00"),
        ("short", False, "1:00"),
        ("prio", False, "infinite"),
    }
    assert [(kind.number, kind.cpus, kind.gpus) for kind in kinds] == [(1, 8, {"": 4})] * 6


def test_gpus_of_a_node_by_type() -> None:
    (kind,) = answers.sinfo("gpu*|1-00:00:00|4|128+|gpu:h100:8(S:0-1),gpu:a100:2,nvme:1\n")
    assert (kind.number, kind.cpus, kind.gpus) == (4, 128, {"h100": 8, "a100": 2})
    assert answers.sinfo("sinfo: error: slow today\n") == []


@every_version
@pytest.mark.parametrize(
    ("name", "line"), [("bad-constraint", "#SBATCH --constraint=zz"), ("wrong-partition", "#SBATCH --partition=nope")]
)
def test_a_refusal_points_at_its_line(version: str, name: str, line: str) -> None:
    script = f"#!/bin/bash\n#SBATCH --nodes=1\n{line}\n#SBATCH --account=lab\n"
    words = str(submission.refused(answer(version, f"sbatch-{name}").stderr, script))
    assert f"job.sbatch:3: {line}\n" in words
    assert words.count("job.sbatch:") == 1


#: The jobs that tests.slurm.record makes: name → state, code while slurmctld remembers it, code of the accounts, nodes.
#: 0 of a job that Slurm ended is what it tells, not what alignlaunch shows.
MADE = {
    "done": ("COMPLETED", 0, 0, "n[1-2]"),
    "failed": ("FAILED", 3, 3, "n1"),
    "termself": ("FAILED", TERM, TERM, "n1"),
    "segv": ("FAILED", SEGV, SEGV, "n1"),
    "a|b c": ("COMPLETED", 0, 0, "n1"),
    "running": ("RUNNING", None, None, "n1"),
    "cancelrun": ("CANCELLED", TERM, 0, "n1"),
    "bigpending": ("PENDING", None, None, ""),
    "held": ("CANCELLED", 0, 0, ""),
}
LATE_MADE = {"during": "RUNNING", "later": "TIMEOUT", "requeued": "PENDING"}


@pytest.mark.parametrize("version", OWN)
@pytest.mark.parametrize("moment", LATE_MADE)
def test_what_alignlaunch_asks_for(version: str, moment: str) -> None:
    said, kept = answer(version, f"squeue-{moment}"), answer(version, f"sacct-{moment}")
    ids = said.command.partition("--jobs=")[2].split()[0].split(",")
    assert said.command.split() == client.squeue_command(ids)
    assert kept.command.split() == client.sacct_command(ids)
    told = answers.squeue(said.stdout, said.fields)
    by_script = {job.free_text.removeprefix("/shared/").removesuffix(".sh"): job.status for job in told}
    assert by_script.pop("late").state == LATE_MADE[moment]
    assert by_script.pop("arr").state == "PENDING"
    shown = {name: (status.state, status.exit_code, status.nodes) for name, status in by_script.items()}
    assert shown == {name: (state, code, nodes) for name, (state, code, _, nodes) in MADE.items()}
    array = ids[-1]
    assert {job.id for job in told} == {*ids[:-1], *(f"{array}_{task}" for task in range(3))}
    accounts = answers.sacct(kept.stdout, kept.fields)
    by_line = {job.free_text.partition("--job-name=")[2].partition(" --output")[0]: job.status for job in accounts}
    # 22.05's accounts have the state before a requeue for some seconds.
    assert by_line.pop("late").state in (LATE_MADE[moment], "REQUEUED" if moment == "requeued" else "")
    assert by_line.pop("arr").state == "PENDING"
    shown = {name: (status.state, status.exit_code, status.nodes) for name, status in by_line.items()}
    assert shown == {name: (state, code, nodes) for name, (state, _, code, nodes) in MADE.items()}


@pytest.mark.parametrize("version", OWN)
def test_every_recorded_partition_and_refusal(version: str) -> None:
    assert [kind.partition for kind in answers.sinfo(answer(version, "sinfo").stdout)] == ["gpu", "short", "prio"]
    lines = {
        "constraint": "--constraint=zz",
        "partition": "--partition=nope",
        "nodelist": "--nodelist=zz",
        "account": "--account=nobody",
        "qos": "--qos=nope",
        "time": "--time=soon",
        "nodes": "--nodes=9",
    }
    for name, option in lines.items():
        said = answer(version, f"sbatch-bad-{name}")
        assert said.exit_code
        words = str(submission.refused(said.stderr, f"#!/bin/bash\n#SBATCH --open-mode=append\n#SBATCH {option}\n"))
        assert f"job.sbatch:3: #SBATCH {option}\n" in words
    assert answers.submitted(answer(version, "sbatch-ok").stdout)
