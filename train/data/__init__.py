"""From the job's records to token sequences on disk, which every rank memory-maps."""
