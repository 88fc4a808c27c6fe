"""The processes (ranks) of a run: rendezvous, the network between them, and what they share."""
