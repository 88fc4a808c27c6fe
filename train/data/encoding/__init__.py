"""From a record to rows of tokens, by any chat template. No torch here."""
