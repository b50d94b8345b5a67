"""Reading and writing files: whole or not at all, and nothing of a stranger's that could run."""
