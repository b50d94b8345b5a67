"""The error of a network or a request that cannot be converted."""

from __future__ import annotations

__all__ = ["ConversionError"]


class ConversionError(ValueError):
    """A network or a request that cannot be converted; the message names the culprit and says what to do."""
