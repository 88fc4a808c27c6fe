"""A plan as text for the terminal, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import communication, documents, memory, strategies
from .memory import GIB, TERMS

if TYPE_CHECKING:
    from .plan import Option, Plan

_WIDTH = 60
#: The letter of each term in the bar.
_LETTERS = dict(zip(TERMS, "WGOALBRw", strict=True))


def text(plan: Plan, options: list[Option]) -> str:
    """The answers, a bar of the peak, the table of alternatives, and the estimate of a step."""
    return "\n".join(
        [*_answers(plan), "", *_bar(plan), "", *_table(plan, options), "", *_time(plan), *_speed(plan), *_saves(plan)]
    )


def _answers(plan: Plan) -> list[str]:
    setup, limits = plan.setup, plan.limits
    model, peak, precision = setup.tuning.model, memory.peak(setup), setup.precision
    lines = [
        f"{plan.job.spec.name}: {model.count:,} parameters ({model.origin}), {setup.tuning.trained:,} trained"
        f" ({setup.tuning.name})",
        f"precision: {precision.name}, {precision.total} bytes a trained parameter: {precision.meaning}",
        f"as written: {strategies.name(setup)}, {'' if setup.checkpointing else 'no '}checkpointing,"
        f" {setup.samples} x {setup.sequences_per_sample * setup.length} tokens a GPU, {setup.gpus} GPUs",
        f"peak: {_gib(peak.total)} GiB on a GPU, at: {peak.name};"
        f" {_gib(sum(memory.host(setup).values()))} GiB on a host",
        *(f"note: {note}" for note in plan.notes),
    ]
    gpu, room, host_room = (limits.gpu or 0) / GIB, limits.room(setup), limits.host_room(setup)
    if plan.fits is None:
        lines.append("fits: not known, nothing says how much memory a GPU has (gpu_memory_gib, --gpu-memory)")
    elif plan.fits:
        rest = "" if host_room is None else f", {_gib(host_room)} GiB on a host"
        lines.append(
            f"fits: yes, {_gib(room or 0)} GiB of {gpu:g} are left{rest}"
            f" (after {strategies.OVERHEAD / GIB:g} for CUDA and NCCL)"
        )
        lines.append(f"largest micro-batch: {_batch(strategies.largest_micro_batch(setup, limits))}")
    else:
        short = [f"{_gib(-room)} GiB short on a GPU of {gpu:g}"] if room is not None and room < 0 else []
        if host_room is not None and host_room < 0:
            short.append(f"{_gib(-host_room)} GiB short on a host")
        lines.append(f"fits: no, {', '.join(short)}")
        lines += _remedies(plan)
    if limits.gpu is None:
        return lines
    chosen = strategies.cheapest(setup, limits)
    if chosen:
        lines.append(f"cheapest that fits by communication: {strategies.name(chosen)}{_sets(plan, chosen)}")
    if plan.best:
        lines.append(
            f"best (--apply): {strategies.name(plan.best)}, micro-batch {plan.best.samples} x accumulation"
            f" {plan.best.accumulation}, {_gib(memory.peak(plan.best).total)} GiB{_sets(plan, plan.best)}"
        )
    lines.append(documents.departure(setup, chosen, limits))
    return lines


def _remedies(plan: Plan) -> list[str]:
    found = strategies.remedies(plan.setup, plan.limits)
    if not found:
        return ["no strategy fits on these GPUs: take more, or shorter sequences (train.max_length)"]
    where = "would fit on a host" if plan.limits.gpu is None else "would fit"
    return [
        f"{where}: {other.tuning.name}, {strategies.name(other)}, {_gib(memory.peak(other).total)} GiB"
        f"{_sets(plan, other)}"
        for other in found
    ]


def _sets(plan: Plan, other: memory.Setup) -> str:
    return f" {strategies.sets(plan.setup, other)}".rstrip() or " (as written)"


def _bar(plan: Plan) -> list[str]:
    """The peak as a bar with one letter for each share of a term; dots are the GPU's free memory."""
    peak = memory.peak(plan.setup)
    full = max(plan.limits.gpu or 0, peak.total) or 1
    letters = ""
    for term, size in peak.terms.items():
        letters += _LETTERS[term] * (round((len(letters) * full / _WIDTH + size) / full * _WIDTH) - len(letters))
    shown = [f"{_LETTERS[term]} {term} {_gib(size)}" for term, size in peak.terms.items() if size]
    return [f"[{letters.ljust(_WIDTH, '.')[:_WIDTH]}] {_gib(peak.total)} GiB", "  ".join(shown)]


def _table(plan: Plan, options: list[Option]) -> list[str]:
    rows = [("TUNING", "STRATEGY", "CKPT", "GPU GiB", "HOST GiB", "FITS", "BATCH", "GB/STEP")]
    for option in options:
        setup = option.setup
        moved = communication.volume(setup)
        fits = {None: "", True: "yes", False: "no"}[option.fits]
        mark = "* " if setup == plan.setup else "  "
        rows.append(
            (
                mark + setup.tuning.name,
                strategies.name(setup),
                "on" if setup.checkpointing else "off",
                _gib(option.peak.total),
                _gib(option.host),
                fits,
                _batch(option.largest_micro_batch),
                f"{(moved.network + moved.host) / 1e9:.1f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "* the job as written; BATCH: the largest micro-batch that fits; GB/STEP: what a GPU moves"]


def _time(plan: Plan) -> list[str]:
    setup = plan.setup
    moved, took = communication.volume(setup), communication.seconds(setup, plan.bandwidths)
    steps = "a number of steps that depends on the data" if plan.steps is None else f"at most {plan.steps:,} steps"
    seconds = "the cluster profile gives no bandwidth for it" if took is None else f"{took:.2f} s if nothing is hidden"
    return [
        f"estimate: at most {plan.tokens_per_step:,} tokens a step, {steps}",
        f"estimate: {moved.network / 1e9:.1f} GB a GPU and step between GPUs, {moved.host / 1e9:.1f} GB to and from"
        f" its host: {seconds}",
    ]


def _speed(plan: Plan) -> list[str]:
    found = plan.speed
    if found is None:
        return []
    (low, high), hours = found.mfu, plan.hours
    taken = f"; all steps in at most {hours[0]:.3g} to {hours[1]:.3g} hours" if hours else ""
    return [
        f"estimate: {found.tokens[0]:,.0f} to {found.tokens[1]:,.0f} tokens/s a GPU{taken}, at {100 * low:.3g} to"
        f" {100 * high:.3g} % of a {plan.job.cluster.gpu_type}'s peak (MFU), as measured: {found.source}"
    ]


def _saves(plan: Plan) -> list[str]:
    found = plan.saves
    size = f"estimate: a checkpoint of {_gib(found.size)} GiB"
    if found.seconds is None or found.interval is None:
        return [f"{size}; the cluster profile does not say how fast it is saved (storage_bandwidth_gbs)"]
    lines = [
        f"{size} in {found.seconds:.0f} s; with a failure every {found.mtbf / 3600:.0f} h (Llama 3's nodes), a save"
        f" about every {found.interval / 60:.0f} minutes costs least"
    ]
    return [*lines, *([f"warning: {plan.too_short_notice}"] if plan.too_short_notice else [])]


def as_json(plan: Plan, options: list[Option]) -> dict[str, Any]:
    """The plan as a JSON object; all sizes are in bytes."""
    setup = plan.setup
    chosen = strategies.cheapest(setup, plan.limits) if plan.limits.gpu is not None else None
    return {
        "job": plan.job.spec.name,
        "parameters": setup.tuning.count,
        "trained": setup.tuning.trained,
        "exact": setup.tuning.model.exact,
        "origin": setup.tuning.model.origin,
        "precision": setup.precision.name,
        "gpu_memory": plan.limits.gpu,
        "host_memory": plan.limits.host,
        "overhead": strategies.OVERHEAD,
        "fits": plan.fits,
        "room": plan.limits.room(setup),
        "as_written": _option(plan.option(setup)),
        "phases": [{"name": phase.name, "terms": phase.terms, "total": phase.total} for phase in memory.phases(setup)],
        "cheapest": strategies.changes(setup, chosen) if chosen else None,
        "best": strategies.changes(setup, plan.best) if plan.best else None,
        "remedies": [strategies.changes(setup, other) for other in strategies.remedies(setup, plan.limits)]
        if plan.fits is False
        else [],
        "alternatives": [_option(option) for option in options],
        "estimate": {
            "tokens_per_step": plan.tokens_per_step,
            "steps": plan.steps,
            "communication_seconds": communication.seconds(setup, plan.bandwidths),
            "speed": _speed_json(plan),
            "checkpoint_bytes": plan.saves.size,
            "save_seconds": plan.saves.seconds,
            "save_every_seconds": plan.saves.interval,
        },
        "documents": documents.departure(setup, chosen, plan.limits),
        "notes": plan.notes,
    }


def _speed_json(plan: Plan) -> dict[str, Any] | None:
    found = plan.speed
    if found is None:
        return None
    tokens = {"mfu": found.mfu, "tokens_per_second_per_gpu": found.tokens}
    return {**tokens, "hours": plan.hours, "source": found.source}


def _option(option: Option) -> dict[str, Any]:
    setup, moved = option.setup, communication.volume(option.setup)
    return {
        "tuning": setup.tuning.name,
        "strategy": strategies.name(setup),
        "zero": setup.zero,
        "offload": setup.offload,
        "gradient_checkpointing": setup.checkpointing,
        "micro_batch": setup.samples,
        "peak": option.peak.total,
        "peak_at": option.peak.name,
        "terms": option.peak.terms,
        "host": memory.host(setup),
        "fits": option.fits,
        "largest_micro_batch": option.largest_micro_batch,
        "network_bytes_per_step": moved.network,
        "host_bytes_per_step": moved.host,
    }


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def _batch(largest: int | None) -> str:
    return "any" if largest is None else str(largest)
