"""The `k8s` section of a job file."""
