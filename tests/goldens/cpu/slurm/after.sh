#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch from direct.yaml (what it says: sha256 af729d3112ecf3714d96174c5db0c508f653f8cca6d0540bd65118ce5edfbb04). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}
tell() { # as `notify` in the job asks for it; in a few seconds, delivered or not
    python -m alignlaunch.launchers.retry.tell "$RUN_DIR" --code "$@" || true
}
[[ "$status" -eq 0 ]] || tell "$status"
