"""Memory, communication and advice for a job, from shapes alone: no torch, no weights, no network."""
