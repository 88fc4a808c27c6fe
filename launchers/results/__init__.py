"""What runs have come to: their curves, compared in a table or drawn on a page."""
