"""Slurm: sbatch gets exactly the rendered bytes (through submitit), and one query returns the states of many runs."""
