"""Converted networks in other formats."""
