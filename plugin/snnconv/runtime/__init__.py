"""Running a converted network: the executor, readouts, early exit."""
