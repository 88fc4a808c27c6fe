"""Slurm: sbatch gets exactly the rendered bytes (through submitit), and one query tells the state of many runs."""
