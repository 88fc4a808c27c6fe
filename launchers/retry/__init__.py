"""Who decides about a retry: from the verdict of `diagnose`, the progress and the attempts before, one decision."""
