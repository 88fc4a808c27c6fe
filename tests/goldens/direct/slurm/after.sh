#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch from direct.yaml (what it says: sha256 5c7d7f2b5ae2fe744bf99cbcdf7d7f38360738097db60e30eec83c7b2c63c3fc). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}
tell() { # as `notify` in the job asks for it; in a few seconds, delivered or not
    python -m alignlaunch.launchers.retry.tell "$RUN_DIR" --code "$@" || true
}
[[ "$status" -eq 0 ]] || tell "$status"
