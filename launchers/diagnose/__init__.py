"""`alignlaunch diagnose`: which rank failed first, why, and what to do. No torch.

gather → scan (line after line, bounded memory) → judge (the table of patterns and its rule) → text.
"""
