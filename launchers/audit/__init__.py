"""That the script which runs is the script in git: drift, git, provenance."""
