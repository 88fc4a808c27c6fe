"""The submitting side: from a job file to a run, and what becomes of it. Neither torch nor transformers here."""
