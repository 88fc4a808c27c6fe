"""What a shell offers after TAB: runs, cluster profiles, keys of a job. Where that fails it offers nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..errors import LaunchError

_LATEST = 200


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`last`, and the latest runs: by name, or by handle once `://` or a part of it is typed."""
    del context, parameter
    from ..runs import records

    try:
        latest = records.load(_LATEST)
    except LaunchError:
        return []
    names = {"last": "", **{run.pipeline.partition("/")[0]: "pipeline" for run in latest if run.pipeline}}
    names |= {run.name: run.status.state for run in reversed(latest)}
    handles = {run.handle: f"{run.name}, {run.status.state}" for run in latest}
    return _offered(names, incomplete) or _offered(handles, incomplete)


def clusters(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Cluster profiles beside the job file, if one is named already, and the user's."""
    del parameter
    from ..job import cluster

    # click has not taken the arguments apart yet: the last option lacks its value.
    folders = {Path(), *(Path(word).parent for word in context.args if not word.startswith("-"))}
    names = sorted({name for folder in folders for name in cluster.names(folder)})
    return _offered(dict.fromkeys(names, ""), incomplete)


def keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Dotted keys of a job file, each with its `=`."""
    del context, parameter
    return _offered({f"{key}=": "" for key in _keys()}, incomplete)


def _keys() -> Iterator[str]:
    import msgspec

    from ..job import batch, rules, schema
    from ..job.spec import JobSpec

    for field in msgspec.structs.fields(JobSpec):
        inner = schema.struct_in(field.type)
        names = inner.__struct_fields__ if inner else ()
        if field.encode_name == "train":
            known = (batch.ARGUMENT, *rules.trainer_args()["stages"].values())
            names = tuple({name: None for arguments in known for name in arguments})
        yield from (f"{field.encode_name}.{name}" for name in names) if names else (field.encode_name,)


def _offered(found: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=note) for value, note in found.items() if value.startswith(incomplete)]
