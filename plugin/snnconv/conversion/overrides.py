"""What is different at single layers: fields of the method by patterns of site names, and sites that stay analog."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from snnconv.graph.source import ConversionError
from snnconv.methods.base import Method

__all__ = ["excluded", "overridden"]

NEAR = 5


def matching(pattern: str, sites: Collection[str], argument: str) -> list[str]:
    """The sites that a pattern names (``*``, ``?`` and ``[...]`` as in file names).

    Raises:
        ConversionError: none; the message lists near names.

    >>> matching("layer1.*", ["layer1.0", "layer1.1", "layer2.0"], "exclude")
    ['layer1.0', 'layer1.1']
    """
    found = [site for site in sites if fnmatchcase(site, pattern)]
    if not found:
        raise _unknown(pattern, sites, argument)
    return found


def _unknown(name: str, sites: Collection[str], argument: str) -> ConversionError:
    near = difflib.get_close_matches(name, sites, NEAR, 0.3) or list(sites)[:NEAR]
    return ConversionError(
        f"{argument}: {name!r} names no activation of this network; near: {', '.join(near)} "
        f"({len(sites)} in all; the report of a conversion lists them)"
    )


def excluded(patterns: str | Iterable[str], sites: Collection[str]) -> list[str]:
    """The sites that stay analog.

    Raises:
        ConversionError: a pattern that names none, or patterns that leave no site.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    names = {site for pattern in patterns for site in matching(pattern, sites, "exclude")}
    if names and len(names) == len(sites):
        raise ConversionError(f"exclude: {', '.join(patterns)} names every activation, so that nothing would spike")
    return [site for site in sites if site in names]


def overridden(
    method: Method, overrides: Mapping[str, Mapping[str, Any]], sites: Collection[str], left: Collection[str] = ()
) -> Method:
    """The method with what ``overrides`` change at the sites that their patterns name; later patterns go first.

    In sum coding the method's ``timesteps`` become the largest of all layers. What the method says of sites that are
    ``left`` analog is dropped.

    Raises:
        ConversionError: a pattern or a name in the method's ``layers`` that names no site, a field that a layer has
            not of its own, a value that is no good.

    >>> from snnconv import methods
    >>> mixed = overridden(methods.ShiftedThreshold(3), {"b*": {"timesteps": 5}}, ["a", "b1", "b2"])
    >>> mixed.timesteps, [mixed.at(site).timesteps for site in ("a", "b1", "b2")]
    (5, [3, 5, 5])
    """
    layers = {site: dict(changes) for site, changes in method.layers.items() if site not in left}
    for site in layers:
        if site not in sites:
            raise _unknown(site, sites, "layers of the method")
    for pattern, changes in overrides.items():
        if not isinstance(changes, Mapping) or not changes:
            raise ConversionError(
                f"overrides: {pattern!r} has {changes!r}; give the method's fields that are different there, such as "
                "dict(timesteps=8)"
            )
        for site in matching(pattern, sites, "overrides"):
            layers[site] = layers.get(site, {}) | dict(changes)
    try:
        steps = {site: layers.get(site, {}).get("timesteps", method.timesteps) for site in sites}
        if method.coding == "sum" and len(set(steps.values())) > 1:
            longest = max(steps.values())
            layers = {site: layers.get(site, {}) | {"timesteps": steps[site]} for site in sites}
            return replace(method, timesteps=longest, layers=layers)
        if method.coding == "sum" and sites:  # all layers alike
            method = replace(method, timesteps=next(iter(steps.values())), layers={})
            layers = {k: {f: v for f, v in c.items() if f != "timesteps"} for k, c in layers.items()}
        return replace(method, layers={site: changes for site, changes in layers.items() if changes})
    except (TypeError, ValueError) as error:
        raise ConversionError(f"overrides: {error}") from error
