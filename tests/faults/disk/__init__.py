"""A disk of a few megabytes that fills up."""
