#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch from qwen3-orpo.yaml (what it says: sha256 bb6d1463982d778991d0a3eb8854c2fe2df9dd2266aac6aad04ebb0cfc9ee186). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}

# There is another attempt after a stop near the time limit, and after a failure if its cause, as `alignlaunch diagnose`
# finds it in the log, lets another one do better; $without then names the node that is at fault, if one is.
without="" log=$(readlink "/proc/$$/fd/1")
may_be_tried_again() {
    [[ "$terminated" -eq 0 && "$status" -ne 0 ]] || return 1
    [[ "$signalled" -eq 0 || ! -e "$output_dir/.stopped" ]] || return 0
    [[ -n "${ALIGNLAUNCH_RUN_DIR:-}" && -z "${ALIGNLAUNCH_PREFLIGHT_ONLY:-}" && ! -e "$output_dir/.stopped" ]] || return 1
    # shellcheck disable=SC2086 # one argument for each node
    without=$(python -m alignlaunch.launchers.retry "$RUN_DIR" --code "$status" --log "$log" \
        --tasks-per-node 1 --nodes $nodes)
}

excluded="" # what the job leaves out from now on; "": as before
leave_out() {
    local others refusal
    others=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%x || true)
    # With too few nodes left the job would be pending for ever.
    if refusal=$(sbatch --test-only --exclude="$1${others:+,$others}" "$RUN_DIR/job.sbatch" 2>&1); then
        excluded=$1${others:+,$others}
    else
        echo "alignlaunch: $1 is not left out: $refusal" >&2
    fi
}

slurmctld_answers() { # it may be restarted just now: ask for ten minutes
    local i
    for ((i = 0; i < 60; i++)); do
        [[ "$(scontrol ping)" != *" is UP"* ]] || return 0
        sleep 10
    done
    return 1
}

requeue() {
    scontrol requeue "$SLURM_JOB_ID" || return 1
    [[ -z "$excluded" ]] || scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$excluded"
}

# Where Slurm does not requeue this job, another one goes on with the run: the same script, folder and log.
follow() {
    [[ -n "${ALIGNLAUNCH_RUN_DIR:-}" ]] || return 1
    local follower without_nodes options
    without_nodes=${excluded:-$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%x || true)}
    options=(--dependency="afterany:$SLURM_JOB_ID" --output="${log//%/%%}" ${without_nodes:+--exclude="$without_nodes"})
    # This job's own SLURM_* would be options of the next one.
    follower=$(
        for name in $(compgen -e SLURM_); do
            [[ "$name" =~ ^SLURM_(CONF|CONF_SERVER|JWT|CLUSTERS)$ ]] || unset "$name"
        done
        sbatch --parsable "${options[@]}" "$RUN_DIR/job.sbatch"
    ) || return 1
    follower=${follower%%;*}
    echo "$follower" >> "$RUN_DIR/followers"
    echo "alignlaunch: Slurm does not requeue this job: job $follower goes on with the run"
    # The steps of a pipeline that wait for this job wait for that one instead.
    local me="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    squeue --noheader --me --format='%i %E' | sed -En "s/\([a-z]+\)//g; s/ (.*)(afterok|afterany):$me\b/ \1\2:$follower/p" |
        while read -r waiting dependency; do
            scontrol update JobId="$waiting" Dependency="$dependency"
        done
}

if may_be_tried_again; then
    if [[ "${SLURM_RESTART_COUNT:-0}" -ge 100 ]]; then
        echo "alignlaunch: requeued 100 times (slurm.max_requeues): submit again to go on" >&2
    else
        slurmctld_answers || echo "alignlaunch: slurmctld does not answer" >&2
        [[ -z "$without" ]] || leave_out "$without"
        [[ "$terminated" -eq 0 ]] || exit 143 # cancelled meanwhile
        trap '' TERM # which a requeue sends this shell and its processes: the next lines have until KillWait
        if requeue || follow; then
            trap - EXIT
            exit "$status"
        fi
    fi
fi
