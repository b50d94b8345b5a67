"""Processes that are killed, disks that are full: what must not be lost then."""
