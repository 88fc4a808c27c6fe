"""The accepted formats of data: records in any of them read into one type for each stage. No torch here."""
