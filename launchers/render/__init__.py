"""From a job to its files, as pure functions: the same job gives the same bytes everywhere."""
