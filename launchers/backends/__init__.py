"""The places to run, behind one protocol: Slurm, Kubernetes, this machine."""
