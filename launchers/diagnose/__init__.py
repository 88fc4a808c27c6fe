"""`alignlaunch diagnose`: which rank failed first, why, and what to do. No torch.

gather (logs and other files) → scan (line by line, in bounded memory) → judge (applies patterns.toml) → report.
"""
