"""What every node runs before its launcher: do the nodes find each other, and are they alike?

    python -m alignlaunch.train.preflight JOB_RESOLVED_YAML -- torchrun ...

A launcher that cannot find its peers is silent for 15 to 30 minutes, and nodes that differ train on until they clash.
Here the nodes meet first, on a port of their own, compare what they are (`facts`, `compare`), try the links between
them (`links`) and say what is wrong; then the process becomes the launcher. One node alone meets nobody.

No torch: its import costs seconds, and the client of its TCPStore waits for ever, whatever its time-out, on a port
where something listens that does not answer.
"""
