"""From rendered files to submitted runs: checks, one submission, the steps of a pipeline, runs in the foreground."""
