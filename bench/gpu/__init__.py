"""Our stages and TRL's trainers on one GPU, with the planner's figures beside: `python -m bench.gpu`."""
