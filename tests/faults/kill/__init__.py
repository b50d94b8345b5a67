"""Jobs that are killed at a moment and run again: the end is that of a run that nobody disturbed."""
