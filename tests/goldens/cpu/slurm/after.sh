#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch 0.1.0 from direct.yaml (sha256 d8d774196634a66c5c64e38778d2af456f173c2b8043bcda139d5cd893058409). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}
tell() { # as `notify` in the job asks for it; in a few seconds, delivered or not
    python -m alignlaunch.launchers.retry.tell "$RUN_DIR" --code "$@" || true
}
[[ "$status" -eq 0 ]] || tell "$status"
