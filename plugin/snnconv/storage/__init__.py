"""Converted networks as files: what a file holds, and how it is checked before anything is made of it."""
