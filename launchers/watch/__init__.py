"""Runs in any place: query their states, follow their logs, wait for their end, cancel them."""
