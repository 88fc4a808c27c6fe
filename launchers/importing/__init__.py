"""From other launch scripts and tools to a job file."""
