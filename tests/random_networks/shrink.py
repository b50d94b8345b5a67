"""A network that fails, without the steps that it fails without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.random_networks.generator import Drawn
from tests.random_networks.network import Network
from tests.random_networks.properties import Case, Refused, called, quiet


def shrunk(drawn: Drawn, holds: Callable[[Case], None]) -> tuple[Drawn, str]:
    """The smallest network that was found on which a property fails, and how it fails."""
    how = failure(drawn, holds)
    assert how, f"{holds.__name__} holds of seed {drawn.seed}"
    smaller = True
    while smaller:
        smaller = False
        for network in _smaller(drawn.network):
            less = replace(drawn, network=network.used())
            found = failure(less, holds)
            if found:
                drawn, how, smaller = less, found, True
                break
    return drawn, how


def _smaller(network: Network) -> list[Network]:
    ends = [network.ending_in(n) for n in range(len(network.steps) - 1)]
    return ends + [network.without(n) for n in range(len(network.steps) - 1, -1, -1)]


def failure(drawn: Drawn, holds: Callable[[Case], None]) -> str | None:
    """How a property fails; None where it holds, or where the network itself does not run."""
    with quiet():
        try:
            called(drawn.network, drawn.inputs)
        except Exception:
            return None
        try:
            holds(Case(drawn))
        except Refused:
            return None
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None
