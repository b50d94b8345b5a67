"""Exported networks against their originals, on real pictures."""
