"""Rules that the schema cannot express: trainer arguments, environment variables, and combinations of keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import Problem
from ..paths import PACKAGE
from . import batch
from .schema import nearest, unknown_key
from .yamlfile import Document

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"(^|_)(TOKEN|(API)?KEY|SECRET|PASS(WORD|WD)?|CREDENTIALS?|AUTH)\Z", re.IGNORECASE)
#: Secrets given where the name of a variable is expected: a Hugging Face token, an OpenAI-style key, a W&B key.
_SECRET_VALUE = re.compile(r"hf_\w{8,}|sk-.+|[0-9a-f]{40}")
#: Set by the launcher on each node; a job that sets one of them breaks its own rendezvous.
_RESERVED = re.compile(
    r"(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|NODE_RANK|PET_\w+|SLURM_\w+|ALIGNLAUNCH_\w+"
    r"|RUN_DIR|PYTHON|HEAD_NODE|NODE_NAME_SUFFIX|TASK_EXIT_CODES|SRUN_CPUS_PER_TASK|TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"
    # The rendered scripts' own variables.
    r"|here|zero_stage|num_nodes|gpus_per_node|master_addr|master_port|node_rank|count|zero_json|python|total|train|preflight"
    r"|hostfile|i|active|status|step|nodes|is_host|code|signalled|terminated|without|excluded|refusal|queued|output_dir|mounts"
    r"|path|exit_code|log|others|follower|without_nodes|options|name|waiting|dependency|this_job)\Z"
)
#: bash sets these itself, makes them read-only, or would parse the rest of the script differently with them set.
_BASH = re.compile(
    r"(BASH\w*|UID|EUID|PPID|GROUPS|DIRSTACK|FUNCNAME|PIPESTATUS|S?RANDOM|LINENO|SECONDS|EPOCH(REALTIME|SECONDS)|HISTCMD"
    r"|SHLVL|SHELLOPTS|IFS|_)\Z"
)


#: Keywords of `sbatch --export`, which are not names of variables.
_ALL_OR_NONE = ("ALL", "NONE", "NIL")


@cache
def trainer_args() -> dict[str, Any]:
    """The shipped list of what each stage's trainer config accepts (made by `train/arguments/trainer_args.py`)."""
    data: dict[str, Any] = json.loads(
        (PACKAGE / "train" / "arguments" / "trainer_args.json").read_text(encoding="utf-8")
    )
    return data


def looks_secret(name: str) -> bool:
    """Whether a variable of this name would hold a secret."""
    return _SECRET.search(name) is not None


def is_secret(value: str) -> bool:
    """Whether a text is a secret by its form: a token or key that a service gives out."""
    return _SECRET_VALUE.fullmatch(value) is not None


def environment(document: Document, data: dict[str, Any]) -> list[Problem]:
    """Variable names must be exportable and not the launcher's own, and the file must not contain a secret's value."""
    problems = []
    env, secrets = data.get("env"), data.get("secrets")
    for name in env if isinstance(env, dict) else []:
        place, key = document.key_place(("env", name)), f"env.{name}"
        if not _VARIABLE.match(name) or _BASH.match(name):
            rule, remedy = (
                "not a name that a shell can export",
                "letters, digits and _, not starting with a digit, not bash's own",
            )
            problems.append(Problem(place, key, None, rule, remedy))
        elif _RESERVED.match(name):
            rule, remedy = "set by the launcher on each node", "remove it; use nnodes and nproc_per_node"
            problems.append(Problem(place, key, None, rule, remedy))
        elif looks_secret(name):  # never print the value
            rule = "looks like a secret, and this file is committed"
            problems.append(Problem(place, key, None, rule, f"export {name} in your shell; `secrets: [{name}]`"))
    for i, name in enumerate(secrets if isinstance(secrets, list) else []):
        if name in _ALL_OR_NONE:
            rule, remedy = (
                "sbatch reads this as a keyword (all variables or none), not as a variable's name",
                "name the variables",
            )
            problems.append(Problem(document.place(("secrets", i)), f"secrets[{i}]", name, rule, remedy))
        elif isinstance(name, str) and (not _VARIABLE.match(name) or is_secret(name)):
            rule = "a secret is passed by its variable's name, never by its value"
            remedy = "export it in your shell and give the variable's name"
            problems.append(Problem(document.place(("secrets", i)), f"secrets[{i}]", None, rule, remedy))
    return problems


def notify(document: Document, data: dict[str, Any]) -> list[Problem]:
    """Somebody must be told, and a webhook is the name of one of the job's secrets: never print what stands there."""
    given, secrets = data.get("notify"), data.get("secrets")
    if not isinstance(given, dict):
        return []  # the schema check reports it
    webhook = given.get("webhook")
    if webhook is None and given.get("command") is None:
        rule, remedy = "names nobody", "`webhook: NAME_OF_A_VARIABLE`, `command: [PROGRAM]`, or remove the key"
        return [Problem(document.place(("notify",)), "notify", None, rule, remedy)]
    if webhook is not None and webhook not in (secrets if isinstance(secrets, list) else []):
        rule = "a webhook is given by the name of a variable that is one of the job's `secrets`, never by its URL"
        remedy = "export the URL in your shell as NAME; `secrets: [NAME]`, `notify: {webhook: NAME}`"
        return [Problem(document.place(("notify", "webhook")), "notify.webhook", None, rule, remedy)]
    return []


#: sbatch options that the templates or the submission set themselves, with the job's key for them ("" for none).
_OWN_OPTIONS = {
    "job-name": "name",
    "nodes": "nnodes",
    **dict.fromkeys(("ntasks", "ntasks-per-node", "gres", "gpus", "gpus-per-node", "gpus-per-task"), "nproc_per_node"),
    "time": "time",
    "partition": "slurm.partition",
    "account": "slurm.account",
    "qos": "slurm.qos",
    "cpus-per-task": "slurm.cpus_per_task",
    "mem": "slurm.mem",
    "signal": "slurm.signal_seconds",
    **dict.fromkeys(("requeue", "no-requeue"), "slurm.requeue"),
    **dict.fromkeys(("array", "chdir", "error", "export", "export-file", "open-mode", "output"), ""),
    **dict.fromkeys(("help", "parsable", "quiet", "test-only", "usage", "version", "wait", "wrap"), ""),
}


def sbatch_options(document: Document, data: dict[str, Any]) -> list[Problem]:
    """`slurm.extra` must not repeat an option that the script sets: sbatch would silently use the last one."""
    problems = []
    options = data.get("slurm", {}).get("extra") if isinstance(data.get("slurm"), dict) else None
    for i, option in enumerate(options if isinstance(options, list) else []):
        name = str(option).partition("=")[0].removeprefix("--")
        # sbatch accepts unambiguous abbreviations, such as --arra=1-3.
        meant = name if name in _OWN_OPTIONS else next((own for own in _OWN_OPTIONS if own.startswith(name)), None)
        if meant:
            key = _OWN_OPTIONS[meant]
            remedy = f"use `{key}`" if key else "remove it"
            rule = "alignlaunch decides this itself"
            problems.append(Problem(document.place(("slurm", "extra", i)), f"slurm.extra[{i}]", option, rule, remedy))
    return problems


def combinations(document: Document, data: dict[str, Any]) -> list[Problem]:
    """Keys that contradict each other."""
    problems = []
    if data.get("quantization") in ("8bit", "4bit") and data.get("lora") is None:
        rule, remedy = "quantised weights cannot be trained", "add `lora: {r: 8}`, or `quantization: none`"
        place = document.place(("quantization",))
        problems.append(Problem(place, "quantization", data["quantization"], rule, remedy))
    if data.get("launcher") == "deepspeed" and data.get("zero") == 0:
        rule, remedy = "the deepspeed launcher without ZeRO has no use", "set `zero: 1`, or `launcher: torchrun`"
        problems.append(Problem(document.place(("launcher",)), "launcher", "deepspeed", rule, remedy))
    named = (data.get("train") or {}).get("resume_from_checkpoint") if isinstance(data.get("train"), dict) else None
    if named and data.get("resume", "auto") != "auto":
        rule, remedy = "`resume` says where to start as well", "keep `resume`"
        place = document.place(("train", "resume_from_checkpoint"))
        problems.append(Problem(place, "train.resume_from_checkpoint", named, rule, remedy))
    least, colon, most = str(data.get("nnodes")).partition(":")
    if colon and least.isdigit() and most.isdigit() and int(least) > int(most):
        rule, remedy = "the fewest nodes are more than the most", f'write "{most}:{least}"'
        problems.append(Problem(document.place(("nnodes",)), "nnodes", data["nnodes"], rule, remedy))
    return problems


def sources(document: Document, data: Any) -> list[Problem]:
    """Either all training sources have a weight or none.

    Validation sources have none, and either `validation` or `validation_share` is given, not both.
    """
    if not isinstance(data, dict):
        return []  # the schema check reports it
    problems = []
    weighted = {
        role: [isinstance(entry, dict) and entry.get("weight") is not None for entry in data[role]]
        for role in ("train", "validation")
        if isinstance(data.get(role), list)
    }
    train, validation = weighted.get("train", []), weighted.get("validation", [])
    if any(train) and not all(train):
        at, rule = train.index(False), "no weight, but other sources have one"
        remedy = "give each source `{path: ..., weight: ...}`, or none a weight"
        place = document.place(("data", "train", at))
        problems.append(Problem(place, f"data.train[{at}]", data["train"][at], rule, remedy))
    if any(validation):
        at, rule = validation.index(True), "evaluation reads every record once"
        place = document.place(("data", "validation", at, "weight"))
        problems.append(Problem(place, f"data.validation[{at}].weight", None, rule, "remove the weight"))
    if data.get("validation") and data.get("validation_share") is not None:
        rule, remedy = "`data.validation` is given as well", "keep one of the two"
        place = document.place(("data", "validation_share"))
        problems.append(Problem(place, "data.validation_share", data["validation_share"], rule, remedy))
    return problems


def best_model(document: Document, data: dict[str, Any]) -> list[Problem]:
    """`load_best_model_at_end` needs checkpoints that are evaluated and that can be loaded again."""
    train, sources = data.get("train"), data.get("data")
    if not isinstance(train, dict) or not isinstance(sources, dict) or train.get("load_best_model_at_end") is not True:
        return []
    evaluates = bool(sources.get("validation")) or sources.get("validation_share") is not None
    found = _no_best_model(train, evaluates=evaluates, zero=bool(data.get("zero")))
    if found is None:
        return []
    key, rule, remedy = found
    return [Problem(document.place(("train", key)), f"train.{key}", train.get(key), rule, remedy)]


def _no_best_model(train: dict[str, Any], *, evaluates: bool, zero: bool) -> tuple[str, str, str] | None:
    """(key, rule, remedy) of the first broken rule. Keys missing in the job have transformers' defaults."""
    if not evaluates:
        remedy = "name `data.validation`, or set `data.validation_share`"
        return "load_best_model_at_end", "the job has no data to evaluate on", remedy
    if train.get("save_only_model") and zero:
        return "save_only_model", "ZeRO could not load the best model again", "remove it, or set `zero: 0`"
    saved, evaluated = train.get("save_strategy", "steps"), train.get("eval_strategy", "no")
    if saved == "no":
        return "save_strategy", "no checkpoint is written, so there is no best one", "write `save_strategy: best`"
    if saved != evaluated and (saved != "best" or evaluated == "no"):
        rule = f"with load_best_model_at_end each checkpoint is evaluated, and train.save_strategy is {saved}"
        return "eval_strategy", rule, f"write `eval_strategy: {'steps' if saved == 'best' else saved}`"
    every = [train.get("save_steps", 500), train.get("eval_steps") or train.get("logging_steps")]
    if saved == "steps" and all(isinstance(steps, int | float) and steps > 0 for steps in every):
        save, evaluate = (round(1e6 * steps) for steps in every)  # a value below 1 is a share of the run
        if save % evaluate or (every[0] < 1) != (every[1] < 1):
            rule = f"with load_best_model_at_end each checkpoint is evaluated, and train.eval_steps is {every[1]}"
            return "save_steps", rule, f"write a multiple of {every[1]}"
    return None


_ONE_AT_LEAST = ("must be 1 or more", lambda value: value >= 1)
_POSITIVE = ("must be more than 0", lambda value: value > 0)
_NOT_NEGATIVE = ("must not be negative", lambda value: value >= 0)
#: Bounds that the trainers' configs do not check, or check only on the compute node.
_BOUNDS: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(("gradient_accumulation_steps", "max_length", "ddp_timeout"), _ONE_AT_LEAST),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), _ONE_AT_LEAST),
    batch.KEY: (f"must be 1 to {batch.MOST}", lambda value: 1 <= value <= batch.MOST),
    # Below 1 a share of the run, from 1 on a count of steps; 0 has no meaning.
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps", "num_train_epochs"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps"), _NOT_NEGATIVE),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
}


def trainer_arguments(stage: str, document: Document, data: dict[str, Any]) -> list[Problem]:
    """Every key under `train:` must be an argument of the stage's trainer config, with a value of its type."""
    train = data.get("train")
    if not isinstance(train, dict):
        return []  # the schema check reports it
    known: dict[str, dict[str, Any]] = trainer_args()["stages"][stage] | batch.ARGUMENT
    owned: dict[str, str] = trainer_args()["owned"]
    problems = []
    for key, value in train.items():
        path, name = ("train", key), f"train.{key}"
        if key in known:
            if rule := _broken_rule(key, value, known[key]):
                near = nearest(value, known[key].get("choices", []))
                remedy = near or f"see {key} of the {stage} trainer's config"
                problems.append(Problem(document.place(path), name, value, rule, remedy))
        elif key in owned:
            owner = owned[key]
            remedy = "leave it out" if owner.startswith("(") else f"use the job's `{owner}`"
            rule = f"not to be set here {owner}" if owner.startswith("(") else "the job decides this by another key"
            shown = None if looks_secret(key) else value
            problems.append(Problem(document.key_place(path), name, shown, rule, remedy))
        else:
            problem = unknown_key(document, path, list(known))
            remedy = problem.remedy if problem.remedy.startswith("did you mean") else "see the trainer's documentation"
            rule = f"not an argument of the {stage} trainer's config"
            problems.append(problem._replace(rule=rule, remedy=remedy))
    return problems


def _broken_rule(key: str, value: Any, spec: dict[str, Any]) -> str | None:
    if key == "resume_from_checkpoint" and isinstance(value, bool):
        return None  # true means the latest checkpoint; transformers annotates only a path
    words = spec["type"].split("|")
    if value is None:
        return None if spec.get("optional") or "any" in words else f"a value of type {spec['type']} is expected"
    if "choices" in spec and value not in spec["choices"]:
        return f"must be one of {', '.join(map(str, spec['choices']))}"
    allowed = {type_ for word in words for type_ in _TYPES.get(word, ())}
    is_flag = isinstance(value, bool)  # in Python a bool is an int, but `true` is no valid count
    if "any" not in words and (bool not in allowed if is_flag else not isinstance(value, tuple(allowed))):
        return f"a value of type {spec['type']} is expected"
    rule, holds = _BOUNDS.get(key, ("", lambda _: True))
    return None if holds(value) else rule
