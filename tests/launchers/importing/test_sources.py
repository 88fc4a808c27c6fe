"""Whole scripts and configurations: the job file, and all that is said of what is not in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from alignlaunch.launchers.importing import read, write
from alignlaunch.launchers.importing.found import Found
from alignlaunch.launchers.job import cluster, jobfile

from .sources import FOLDER, SOURCES, Source

GOLDENS = Path(__file__).with_name("goldens")
each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@pytest.fixture
def found(source: Source, monkeypatch: pytest.MonkeyPatch) -> Found:
    monkeypatch.chdir(FOLDER / source.folder)
    return read.read(Path(source.file), list(source.arguments))


@each
def test_the_job_file_and_the_report(source: Source, found: Found, pytestconfig: pytest.Config) -> None:
    profile = write.profile(found)
    made = write.job(found, source.file) + (write.commented(profile) if profile else "")
    made += "\n# stderr:\n" + "".join(f"# {line}\n" for line in write.report(found))
    golden = GOLDENS / f"{source.name}.yaml"
    if pytestconfig.getoption("--update-goldens"):
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8"), "if the change is meant: pytest --update-goldens"


def test_there_is_no_golden_too_many() -> None:
    assert {path.stem for path in GOLDENS.glob("*")} == {source.name for source in SOURCES}


@each
def test_job_and_profile_load(source: Source, found: Found, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / source.folder, tmp_path / "work")
    (folder / "job.yaml").write_text(write.job(found, source.file), encoding="utf-8")
    (folder / "clusters").mkdir()
    profile = folder / "clusters/lab.yaml"
    profile.write_text(write.profile(found) or "{}\n", encoding="utf-8")
    cluster.load(profile)
    job = jobfile.load(folder / "job.yaml", cluster_name="lab")
    assert job.spec.stage == found.job["stage"].value


@each
def test_nothing_of_the_source_is_lost(source: Source, found: Found) -> None:
    """Every option of the training command and every key of a configuration has a line, a reason or a refusal."""
    text = (FOLDER / source.folder / source.file).read_text(encoding="utf-8")
    lines = [*found.job.values(), *found.cluster.values()]
    told = {one.name.lstrip("-") for line in lines for one in line.given}
    told |= {left.given.name.lstrip("-") for left in [*found.dropped, *found.cannot]}
    if source.file.endswith((".yml", ".yaml")):
        keys = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
        # Its parts have a line of their own.
        assert keys - told - {name.partition(".")[0] for name in told} == set()
        return
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    import re

    options = set(re.findall(r"(?<![\w-])--?([a-zA-Z][\w-]+)(?=[ =\n])", code.partition("torchrun")[2]))
    assert {option for option in options if option not in told} <= {"f1"}
