#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch from direct.yaml (what it says: sha256 7bafbc34f30f19e0bd24c7b417d3b8867d38aaeadcbab58c3d9850c695a63a7e). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}
tell() { # as `notify` in the job asks for it; in a few seconds, delivered or not
    python -m alignlaunch.launchers.retry.tell "$RUN_DIR" --code "$@" || true
}
[[ "$status" -eq 0 ]] || tell "$status"
