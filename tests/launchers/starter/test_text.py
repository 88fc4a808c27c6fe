"""A starter file is a valid job with the stage's defaults, but where the machine or the model makes them wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.backends.gpus import Gpus
from alignlaunch.launchers.backends.slurm import answers
from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import defaults, jobfile
from alignlaunch.launchers.job.job import Job
from alignlaunch.launchers.starter import text, words
from alignlaunch.launchers.starter.machine import Machine
from alignlaunch.launchers.starter.model import Facts
from alignlaunch.launchers.starter.text import Wanted
from alignlaunch.train.config import Stage
from tests.conftest import MINIMAL
from tests.launchers.job.job_files import NEEDED

every_stage = pytest.mark.parametrize("stage", defaults.STAGES)
VALIDATION = "data.validation=[v]"  # without it the evaluation defaults do not apply


@every_stage
def test_the_starter_is_a_valid_job_equal_to_the_defaults(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text.of(stage))
    started = jobfile.load(path, (VALIDATION,)).resolved()
    path.write_text(MINIMAL)
    same = ("name", "model", "output_dir")
    overrides = tuple(f"{key}={started[key]}" for key in same)
    overrides += (f"stage={stage}", "data.train=[../data/train]", VALIDATION, *NEEDED.get(stage, ()))
    bare = jobfile.load(path, overrides).resolved()
    assert started == bare


@every_stage
def test_the_starters_commented_keys_are_keys_too(tmp_path: Path, stage: Stage) -> None:
    """Taking the `#` away must give a valid job."""
    lines = []
    for line in text.of(stage).splitlines():
        bare = line.lstrip()
        key = bare.removeprefix("# ")
        is_key = bare.startswith("# ") and not bare[2:3].isupper() and ": " in key and " " not in key.partition(":")[0]
        lines.append(line.replace("# ", "", 1) if is_key and "yaml-language-server" not in line else line)
    path = tmp_path / "job.yaml"
    path.write_text("\n".join(lines).replace("offload: optimizer ", "offload: none"))
    loaded = jobfile.load(path)
    assert (loaded.spec.tokenizer, loaded.spec.time) == ("../output/tokenizers_merge", "12:00:00")
    assert loaded.spec.data.validation == ["../data/eval"]
    assert loaded.spec.slurm.partition == "gpu"


@every_stage
def test_the_starter_names_the_schema_first_and_each_source(stage: Stage) -> None:
    first, *rest = text.of(stage).splitlines()
    assert first == "# yaml-language-server: $schema=alignlaunch.schema.json"
    for default in defaults.for_stage(stage):
        name = default.key.rpartition(".")[2]
        source = "no GPU was found: write how many a node has" if name == "nproc_per_node" else default.source
        assert any(line.strip().startswith(f"{name}: ") and line.endswith(f" [{source}]") for line in rest), name


def test_an_unknown_stage() -> None:
    with pytest.raises(UsageError, match="remedy: one of orpo, rm, sft, pt, dpo, safe_dpo"):
        text.of("ppo")  # type: ignore[arg-type]


@every_stage
def test_every_line_is_explained(stage: Stage) -> None:
    for line in text.of(stage).splitlines():
        assert not line.strip() or "#" in line or line == "data:", line
    assert words.STAGES.keys() == defaults.STAGES.keys()


def started(folder: Path, stage: Stage, wanted: Wanted) -> tuple[Job, dict[str, str]]:
    """The job of a starter file, and its lines by their keys."""
    path = folder / "job.yaml"
    path.write_text(text.of(stage, wanted))
    lines = [line.strip() for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return jobfile.load(path, (VALIDATION,)), {line.partition(":")[0]: line.partition("# ")[2] for line in lines}


def nodes(said: str) -> list[answers.Nodes]:
    return answers.sinfo(said)


@pytest.mark.parametrize(
    ("said", "partition", "number", "why"),
    [
        ("cpu*|1:00|9|8|(null)\ngpu|1:00|2|8|gpu:4\n", "gpu", 4, "the partition with most GPUs: 2 nodes of 4 GPUs"),
        (
            "a|1:00|9|8|gpu:8\nb*|1:00|1|8|gpu:1\n",
            "b",
            1,
            "the default partition: 1 node of 1 GPU; others: a (9 nodes of 8 GPUs)",
        ),
        (
            "a|1:00|2|8|gpu:h100:8\nb|1:00|9|8|gpu:4\n",
            "b",
            4,
            "the partition with most GPUs: 9 nodes of 4 GPUs; others: a (2 nodes of 8 h100 GPUs)",
        ),
        ("a*|1:00|2|8|gpu:8\na*|1:00|9|8|gpu:4\n", "a", 4, "the default partition: 9 nodes of 4 GPUs"),
        ("a*|1:00|1|8|gpu:h100:4,gpu:a100:2\n", "a", 6, "the default partition: 1 node of 4 h100 GPUs and 2 a100 GPUs"),
        (
            "a*|1:00|2|8|gpu:8\na b|1:00|9|8|gpu:8\nc|1:00|1|8|gpu:999999\n",
            "a",
            8,
            "the default partition: 2 nodes of 8 GPUs",
        ),
        ("true*|1:00|2|8|gpu:8\n", "true", 8, "the default partition: 2 nodes of 8 GPUs"),
    ],
)
def test_slurm_decides_partition_and_processes(
    tmp_path: Path, said: str, partition: str, number: int, why: str
) -> None:
    job, lines = started(tmp_path, "sft", Wanted(machine=Machine(Gpus(1, "nvidia-smi"), nodes(said))))
    assert (job.spec.slurm.partition, job.spec.nproc_per_node) == (partition, number)
    assert lines["partition"] == f"{why} [sinfo]"
    assert lines["nproc_per_node"].endswith(f"in partition {partition} (sinfo); 1 GPU here (nvidia-smi)]")


def test_without_slurm_the_gpus_here_decide(tmp_path: Path) -> None:
    job, lines = started(tmp_path, "sft", Wanted(machine=Machine(Gpus(4, "nvidia-smi"))))
    assert (job.spec.slurm.partition, job.spec.nproc_per_node) == (None, 4)
    assert lines["nproc_per_node"].endswith("[4 GPUs here (nvidia-smi)]")


def test_a_slurm_without_gpus_proposes_nothing(tmp_path: Path) -> None:
    job, lines = started(tmp_path, "sft", Wanted(machine=Machine(nodes=nodes("cpu*|1:00|9|8|(null)\n"))))
    assert (job.spec.slurm.partition, job.spec.nproc_per_node) == (None, 1)
    assert "sinfo lists no GPUs" in (tmp_path / "job.yaml").read_text()
    assert lines["nproc_per_node"].endswith("[no GPU was found: write how many a node has]")


LLAMA = Facts("llama", 134_515_008, True, 8192, True)


@pytest.mark.parametrize(
    ("stage", "context", "length", "prompt"),
    [
        ("sft", 8192, 2048, None),
        ("sft", 2048, 2048, None),
        ("sft", 1024, 1024, None),
        ("sft", None, 2048, None),
        ("pt", 2048, None, None),
        ("pt", 512, 512, None),
        ("rm", 1024, 1024, None),
        ("orpo", 512, 512, 256),
        ("orpo", 256, 256, 128),
        ("safe_dpo", 512, 512, None),
    ],
)
def test_no_example_is_longer_than_the_model_can_read(
    tmp_path: Path, stage: Stage, context: int | None, length: int | None, prompt: int | None
) -> None:
    job, lines = started(tmp_path, stage, Wanted(facts=LLAMA._replace(context=context)))
    assert (job.spec.train.get("max_length"), job.spec.train.get("max_prompt_length")) == (length, prompt)
    changed = context is not None and length == context and "all that the model can read" in lines["max_length"]
    assert changed == ((stage, context) in {("sft", 1024), ("pt", 512), ("rm", 1024), ("orpo", 256), ("safe_dpo", 512)})


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (LLAMA, "llama, 134,515,008 parameters, reads up to 8192 tokens, with a chat template"),
        (LLAMA._replace(exact=False, context=None), "llama, about 134,515,008 parameters, with a chat template"),
        (
            LLAMA._replace(type="", has_template=False),
            "no model_type, 134,515,008 parameters, reads up to 8192 tokens, no chat template",
        ),
        (LLAMA._replace(type="a\nb: \x1b[2J"), r"a b: \x1b[2J, 134,515,008 parameters"),
    ],
)
def test_what_the_model_is_stands_beside_it(tmp_path: Path, facts: Facts, said: str) -> None:
    _, lines = started(tmp_path, "sft", Wanted(facts=facts))
    assert lines["model"].startswith(f"a folder or a hub id [{said}")
    assert "chat template" not in started(tmp_path, "pt", Wanted(facts=facts))[1]["model"]


@pytest.mark.parametrize(
    "name", ["./true", "true", "a b/ü", "./a#b", "a: b", "-x", "a,b", "1e5", "'q'", 'q"q', "[a]", "😀"]
)
def test_names_are_quoted_where_yaml_would_read_something_else(tmp_path: Path, name: str) -> None:
    job, _ = started(tmp_path, "sft", Wanted(model=name, data=name))
    assert (job.spec.model, job.spec.data.train) == (name, [name])
