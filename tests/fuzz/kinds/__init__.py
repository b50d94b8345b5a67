"""Kinds of files that strangers may have made: a file each, with its record as ``KIND``."""
