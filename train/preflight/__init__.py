"""What every node runs before its launcher: a check that the nodes can reach each other and are alike.

    python -m alignlaunch.train.preflight JOB_RESOLVED_YAML -- torchrun ...

A launcher that cannot find its peers is silent for 15 to 30 minutes, and nodes that differ fail late, in the middle of
training. So the nodes first meet on a port of their own, compare their facts (`facts`, `compare`), test the links
between them (`links`) and report what is wrong; then the process becomes the launcher. A single node checks itself.

No torch: its import takes seconds, and the client of its TCPStore waits for ever, whatever its time-out, if something
listens on the port that does not answer.
"""
