"""Kubernetes: PyTorchJobs and TrainJobs, through its API server."""
