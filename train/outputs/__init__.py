"""What a run leaves in its output folder: checkpoints, weights and provenance; and merged adapters."""
