"""alignlaunch: one job file to a running, audited alignment-training job on Slurm, Kubernetes or this machine."""

__version__ = "0.1.0"
