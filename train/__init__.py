"""The training side: all that runs on the nodes of a job, from `python -m alignlaunch.train` on."""
