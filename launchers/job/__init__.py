"""What a job file, a pipeline file and a cluster profile say, with their rules and defaults."""
