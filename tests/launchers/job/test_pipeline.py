"""Pipeline files: what they say, what is wrong with them, and what is rendered and locked of each step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError, UsageError
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.job.pipeline import Pipeline
from tests.conftest import Cli

SFT = """\
name: first
stage: sft
model: base
data: {train: [chat]}
output_dir: ../out/first
"""
PAIRS = """\
name: pairs
stage: orpo
model: ./elsewhere
data: {train: [pairs]}
output_dir: out/pairs
train: {max_steps: 7, beta: 0.2}
"""
CHAIN = """\
name: chain
jobs:
  last: {job: pairs.yaml, after: [inline], model: "${sft.output}/best", train: {max_steps: 3}}
  sft: {job: jobs/sft.yaml}
  inline:
    stage: orpo
    model: ${sft.output}
    data: {train: [pairs]}
    env: {RATIO: 12.10, WHERE: "${sft.output}:$HOME"}
"""


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline of a job file in another folder, a job written inline, and a job file with keys over it."""
    monkeypatch.chdir(tmp_path)
    Path("jobs").mkdir()
    Path("jobs/sft.yaml").write_text(SFT)
    Path("pairs.yaml").write_text(PAIRS)
    Path("chain.yaml").write_text(CHAIN)
    return Path("chain.yaml")


def broken(text: str) -> list[str]:
    """The first lines of every problem of a pipeline file that holds `text`."""
    path = Path("chain.yaml")
    path.write_text(text)
    with pytest.raises(JobFileError) as caught:
        pipeline.load(path)
    assert all(problem.remedy for problem in caught.value.problems)
    return [str(problem).splitlines()[0] for problem in caught.value.problems]


def test_outputs_feed_inputs_and_imply_the_order(chain: Path) -> None:
    loaded = pipeline.load(chain)
    assert list(loaded.jobs) == ["sft", "inline", "last"]
    assert loaded.needs == {"sft": [], "inline": ["sft"], "last": ["inline", "sft"]}
    # The output of jobs/sft.yaml, as seen from the folder of the others.
    assert [job.spec.model for job in loaded.jobs.values()] == ["base", "out/first", "out/first/best"]
    assert loaded.jobs["inline"].env == {"RATIO": "12.10", "WHERE": "out/first:$HOME"}
    assert loaded.jobs["last"].upcoming == ("out/first", "output/chain-inline")


def test_a_steps_keys_stand_over_its_job_files_map_by_map(chain: Path) -> None:
    train = pipeline.load(chain).jobs["last"].spec.train
    assert (train["max_steps"], train["beta"]) == (3, 0.2)


def test_names(chain: Path) -> None:
    """A job file's own, or the pipeline's and the step's."""
    assert [job.spec.name for job in pipeline.load(chain).jobs.values()] == ["first", "chain-inline", "pairs"]


def test_only_a_step_that_differs_from_its_job_file_is_recorded_as_one(chain: Path) -> None:
    steps = {name: job.step for name, job in pipeline.load(chain).jobs.items()}
    assert steps == {"sft": None, "inline": (chain, "inline"), "last": (chain, "last")}


def test_an_absolute_output_is_named_as_it_is(chain: Path) -> None:
    loaded = pipeline.load(chain, ("sft.output_dir=/scratch/sft",))
    assert loaded.jobs["inline"].spec.model == "/scratch/sft"


def test_set_names_the_step(chain: Path) -> None:
    loaded = pipeline.load(chain, ("last.train.max_steps=9", "inline.env.RATIO=1.0", "sft.output_dir=o"))
    assert loaded.jobs["last"].spec.train["max_steps"] == 9
    assert loaded.jobs["inline"].env["RATIO"] == "1.0"
    assert loaded.jobs["inline"].spec.model == "jobs/o"
    for wrong in ("train.max_steps=9", "nnodes=2", "last", "last.=3"):
        with pytest.raises(UsageError, match="remedy"):
            pipeline.load(chain, (wrong,))


def test_a_job_file_is_a_pipeline_of_one(chain: Path) -> None:
    loaded: Pipeline = pipeline.load(Path("pairs.yaml"), ("train.max_steps=1", "name=short"))
    assert (loaded.name, list(loaded.jobs), loaded.needs) == (None, ["short"], {"short": []})
    assert loaded.jobs["short"].spec.train["max_steps"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs: {a: {job: pairs.yaml}}", "1:1: name: this key is required"),
        ("name: c\njobs: {}", "2:7: jobs = {}: expected `object` of length >= 1"),
        ("name: c\njobs: [pairs.yaml]", "2:7: jobs = ['pairs.yaml']: expected `object`, got `array`"),
        ("name: c\nstage: sft\njobs: {a: {job: pairs.yaml}}", "2:1: stage: unknown key"),
        ("name: c\njobs: {A b: {job: pairs.yaml}}", "2:8: jobs.A b: not a step's name"),
        ("name: c\njobs: {a: pairs.yaml}", "2:11: jobs.a = 'pairs.yaml': a map is expected"),
        ("name: c\njobs:\n  a:\n", "3:5: jobs.a: a map is expected"),
        ("name: c\njobs: {a: {job: 3}}", "2:17: job = 3: expected `str`, got `int`"),
        ("name: c\njobs: {a: {job: chain.yaml}}", "2:1: jobs: unknown key"),
        ("name: c\njobs: {a: {stage: sft}}", "2:11: model: this key is required"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(chain: Path, text: str, said: str) -> None:
    assert f"chain.yaml:{said}" in broken(text)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("after: b", "36: after = 'b': expected `array`, got `str`"),
        ("after: [b]", "37: after[0] = 'b': no such step"),
        ("after: [a]", "37: after[0] = 'a': a step cannot wait for itself"),
        ("model: '${b.output}'", "36: model = '${b.output}': no such step"),
        ("model: 'x/${a.output}'", "36: model = '${a.output}': a step cannot wait for itself"),
        ("model: '${a.model}'", "36: model = '${a.model}': only a step's output can be referred to"),
        ("data: {train: [x, '${b.output}']}", "47: data.train[1] = '${b.output}': no such step"),
        ("modle: x", "29: modle: unknown key"),
        ("train: {max_steps: x}", "48: train.max_steps = 'x': a value of type int is expected"),
        ("lora: {rr: 3}", "36: lora.rr: unknown key"),
        ("name: first}, b: {job: jobs/sft.yaml", "46: jobs.b.name = 'first': that of step a too"),
        (
            "output_dir: out/first}, b: {job: jobs/sft.yaml",
            "56: jobs.b.output_dir = '../out/first': that of step a too",
        ),
    ],
)
def test_what_is_wrong_with_a_steps_keys(chain: Path, keys: str, said: str) -> None:
    assert f"chain.yaml:2:{said}" in broken(f"name: c\njobs: {{a: {{job: pairs.yaml, {keys}}}}}")


def test_a_dependency_of_the_steps_own_would_be_lost(chain: Path) -> None:
    text = "name: c\njobs:\n  a: {job: jobs/sft.yaml}\n  b: {job: pairs.yaml, slurm: {extra: [--dependency=singleton]}"
    assert broken(f"{text}, after: [a]}}") == [
        "chain.yaml:4:6: jobs.b.slurm.extra = '--dependency=singleton': the pipeline decides this"
    ]
    chain.write_text(f"{text}}}")  # a step that waits for no other may have it
    assert list(pipeline.load(chain).jobs) == ["a", "b"]


def test_a_job_file_that_is_not_there(chain: Path) -> None:
    said = "gone.yaml: cannot be read: No such file or directory"
    assert broken("name: c\njobs: {a: {job: gone.yaml}}") == [said]


def test_a_cycle_is_shown_whole_and_each_of_them(chain: Path) -> None:
    text = """\
name: c
jobs:
  a: {job: pairs.yaml, after: [c]}
  b: {job: pairs.yaml, name: b, output_dir: b, after: [a]}
  c: {job: pairs.yaml, name: c, output_dir: c, model: "${b.output}"}
  d: {job: pairs.yaml, name: d, output_dir: d, after: [e]}
  e: {job: pairs.yaml, name: e, output_dir: e, after: [d, a]}
"""
    said = broken(text)
    assert len(said) == 2
    assert [set(line.rpartition(": ")[2].split(" -> ")) for line in said] == [{"a", "b", "c"}, {"d", "e"}]


def test_every_problem_of_every_step_at_once(chain: Path) -> None:
    Path("pairs.yaml").write_text(PAIRS.replace("beta: 0.2", "beta: much"))
    said = broken("name: c\njobs:\n  a: {job: pairs.yaml, after: [z]}\n  b: {job: jobs/sft.yaml, zero: 9}\n  c: 1\n")
    assert [line.split(" ")[0] for line in said] == [
        "chain.yaml:3:32:", "chain.yaml:4:33:", "chain.yaml:5:6:", "pairs.yaml:6:29:"
    ]  # fmt: skip


def test_a_reference_in_a_job_that_runs_alone(chain: Path, cli: Cli) -> None:
    Path("pairs.yaml").write_text(PAIRS.replace("./elsewhere", "${sft.output}"))
    done = cli("render", "pairs.yaml")
    assert done.returncode == 2
    assert (
        "pairs.yaml:3:8: model = '${sft.output}': refers to a step of a pipeline, and this job runs alone"
        in done.stderr
    )
    assert pipeline.load(chain).jobs["last"].spec.model == "out/first/best"  # the step says something else


def test_each_step_is_rendered_and_checked(chain: Path, cli: Cli) -> None:
    rendered = cli("render", "chain.yaml", "--target", "slurm", "--set", "last.name=short")
    assert rendered.stdout.split() == ["jobs/launch/first/slurm", "launch/chain-inline/slurm", "launch/short/slurm"]
    lock = json.loads(Path("launch/short/slurm/alignlaunch.lock").read_text())
    assert lock["job"]["path"] == "../../../pairs.yaml"
    assert lock["pipeline"] == {"path": "../../../chain.yaml", "step": "last"}
    assert lock["set"] == ["last.name=short"]
    assert "model: out/first/best" in Path("launch/short/slurm/job.resolved.yaml").read_text()
    checked = cli("check")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
    assert "3 clean" in checked.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "said"),
    [
        ("jobs/sft.yaml", "../out/first", "../out/other", 1, "+model: out/other/best\n"),  # another step's file
        ("chain.yaml", "max_steps: 3", "max_steps: 4", 1, "+  max_steps: 4\n"),
        ("chain.yaml", "  last:", "  final:", 2, "its step last of chain.yaml is gone"),
        ("chain.yaml", "[inline]", "[nobody]", 2, "no such step"),
    ],
)
def test_drift_of_a_step(chain: Path, cli: Cli, file: str, old: str, new: str, code: int, said: str) -> None:
    assert cli("render", "chain.yaml").returncode == 0
    Path(file).write_text(Path(file).read_text().replace(old, new))
    done = cli("check")
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_another_steps_edit_changes_nothing_in_a_job_file_of_its_own(chain: Path, cli: Cli) -> None:
    """A step that only names its job file is that job: rendered alone or in a pipeline, the same bytes."""
    assert cli("render", "chain.yaml").returncode == 0
    before = {path: path.read_bytes() for path in Path("jobs/launch").rglob("*") if path.is_file()}
    assert len(before) > 5
    assert cli("render", "jobs/sft.yaml").returncode == 0
    assert before == {path: path.read_bytes() for path in Path("jobs/launch").rglob("*") if path.is_file()}


def test_a_pipeline_file_that_is_gone(chain: Path, cli: Cli) -> None:
    assert cli("render", "chain.yaml").returncode == 0
    chain.unlink()
    done = cli("check")
    assert (done.returncode, "its pipeline file chain.yaml is gone" in done.stderr) == (2, True)
