"""What a config of data has built by name: what a registry knows, but for the few that run what a config holds.

mmengine imports a name that no registry knows as a path in a module, wherever a field is taken for one: ``type``,
``constructor``, ``ema_type``. :func:`check_types` refuses ``type`` before any work, by field; :func:`nothing_imported`
the rest, when something asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root

from snnbench.config_data import ADVICE, SCOPES, is_data, walk
from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError

__all__ = ["DANGEROUS", "check_types", "nothing_imported"]

DANGEROUS = {
    "CameraMotionCompensation": "runs the text of its warp_mode",
    "KnowledgeDistillationSingleStageDetector": "runs the config that its teacher_config names",
    "OpenImagesChallengeDataset": "reads its hierarchy_file by running what it asks for",
    "RFSearchHook": "runs the names of layers that it is given",
    "DVCLiveVisBackend": "starts a program",
    "CityScapesMetric": "removes a folder of the name that it is given",
    "CityscapesMetric": "removes the folder that it is given",
    "MOTChallengeMetric": "removes the folder that it is given",
}
"""Registered classes that a config of data may not name, nor those derived from them, and what they would do."""


OPERATORS = ("nms", "soft_nms", "RoIAlign", "RoIPool")
"""Operators of mmcv that mmdet takes by name without a registry."""


def check_types(config: Config, methods: tuple[str, ...]) -> None:
    """Refuse a ``type`` that no registry knows, which mmengine would import, and one of :data:`DANGEROUS`.

    Args:
        config: as `read_config` gives it, after the registries of its scope are filled.
        methods: names that ``type`` may have beside: those of conversion methods.

    Raises:
        UntrustedFileError: the field and the name.
    """
    known = _known()
    for field, key, value in walk(config.to_dict(), ""):
        if key != "type" or isinstance(value, dict | list | tuple) or value in (*methods, *OPERATORS):
            continue
        field = f"{config.filename}: {brief(field)}"
        if not isinstance(value, str):
            raise UntrustedFileError(f"{field}: {value!r:.200} is no name")
        _check_name(value, known, field)


@contextmanager
def nothing_imported(config: Config) -> Iterator[None]:
    """In the block, mmengine builds what its registries know alone, where ``config`` is data.

    Raises:
        UntrustedFileError: something else is asked for.
    """
    if not is_data(config):
        yield
        return
    known, real = _known(), Registry.get

    def get(registry: Registry, key: Any) -> Any:
        if isinstance(key, str):
            _check_name(key, known, str(config.filename))
        return real(registry, key)

    Registry.get = get
    try:
        yield
    finally:
        Registry.get = real


def _check_name(value: str, known: dict[str, list[Any]], where: str) -> None:
    scope, _, name = value.rpartition(".")
    if name not in known:  # some are registered when the first of their kind is built
        known.update(_known())
    if name not in known or (scope and scope not in SCOPES):
        raise UntrustedFileError(
            f"{where}: {value!r:.200} is registered nowhere, and a path in a module is not imported for a YAML or JSON "
            f"config; {ADVICE}"
        )
    for found in known[name]:
        for base in getattr(found, "__mro__", ()):
            if base.__name__ in DANGEROUS:
                raise UntrustedFileError(f"{where}: {name} {DANGEROUS[base.__name__]}; {ADVICE}")


def _known() -> dict[str, list[Any]]:
    """Every registered name, and what has it in one package or another."""
    found: dict[str, list[Any]] = {}
    for registry in vars(root).values():
        if isinstance(registry, Registry):
            for name, value in _entries(registry):
                found.setdefault(name, []).append(value)
    return found


def _entries(registry: Registry) -> Iterator[tuple[str, Any]]:
    yield from registry.module_dict.items()
    for child in registry.children.values():
        yield from _entries(child)
