"""What mmengine asks of ``pkg_resources``, answered from ``importlib.metadata``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

__all__ = ["Distribution", "DistributionNotFound", "get_distribution"]


class DistributionNotFound(Exception):
    """No installed distribution of this name."""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution: its name, its version, and the folder that its modules are in."""

    project_name: str
    version: str
    location: str

    def has_metadata(self, name: str) -> bool:
        """Whether its metadata has a file of this name."""
        return metadata.distribution(self.project_name).read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """What that file holds."""
        text = metadata.distribution(self.project_name).read_text(name)
        if text is None:
            raise FileNotFoundError(f"{self.project_name} has no metadata {name}")
        return text


def get_distribution(name: str) -> Distribution:
    """The installed distribution of this name.

    Raises:
        DistributionNotFound: there is none.

    >>> get_distribution("numpy").project_name
    'numpy'
    """
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise DistributionNotFound(name) from error
    return Distribution(name, found.version, str(found.locate_file("")))
