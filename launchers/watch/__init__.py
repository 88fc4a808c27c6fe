"""Runs in any place: their states, their logs, waiting for their end."""
