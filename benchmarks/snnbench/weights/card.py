"""Weights of a network to be converted, as safetensors with a model card: what it is, and how it came about."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from snnbench import results
from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_header, read_json

__all__ = ["ModelCard", "load_weights", "read_card", "save_weights"]

_KINDS: dict[str, Any] = {"architecture": str, "dataset": str, "seed": int | None}
_TITLES = {
    "architecture": "Network", "dataset": "Data set", "seed": "Seed", "metrics": "Validation", "training": "Training",
    "versions": "Versions",
}  # fmt: skip


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights says about itself.

    Attributes:
        architecture: the network.
        dataset: what it was trained on.
        seed: of every draw.
        metrics: name → value on the validation data.
        training: what it took: ``iterations``, ``epochs``, ``seconds``, ``ranks``.
        config: all settings.
        versions: of Python and of the packages; those installed now by default.

    >>> ModelCard("ResNet-20", "CIFAR-10", metrics={"top1": 91.5}).metrics
    {'top1': 91.5}
    """

    architecture: str
    dataset: str = ""
    seed: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: results.provenance(None)["versions"])

    def metadata(self) -> dict[str, str]:
        """The header of a safetensors file: every field as JSON, and the training's figures by their names."""
        values = results.plain(asdict(self))
        return {
            **{key: json.dumps(value, ensure_ascii=False) for key, value in values.items()},
            **{key: str(value) for key, value in self.training.items()},
            "card": "snnconv/1",
            "config_hash": results.config_hash(values["config"]),
        }

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> ModelCard | None:
        """The card in a safetensors header; ``None`` where there is none.

        Raises:
            UntrustedFileError: a field that is no JSON, or of another type.
        """
        if metadata.get("card") != "snnconv/1":
            return None
        found = {f.name: read_json(metadata[f.name], f.name) for f in fields(ModelCard) if f.name in metadata}
        if "architecture" not in found:
            raise UntrustedFileError("architecture is missing")
        found.setdefault("versions", {})  # those installed now are not those of the training
        for name, value in found.items():
            kind = _KINDS.get(name, dict)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UntrustedFileError(f"{name} is {value!r:.40}")
        return ModelCard(**found)

    def markdown(self) -> str:
        """The card for a reader."""
        lines = [f"# {self.architecture}", ""]
        for name, title in _TITLES.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                value = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
            if value not in (None, ""):
                lines.append(f"- {title}: {value}")
        if self.config:
            text = json.dumps(results.plain(dict(self.config)), indent=2, ensure_ascii=False)
            lines += ["", "## Config", "", "```json", text, "```"]
        return "\n".join(lines) + "\n"


def save_weights(model: nn.Module, path: str | os.PathLike[str], card: ModelCard) -> None:
    """Write a network's parameters and buffers to a safetensors file, and its card to a ``.md`` file beside it.

    Both files are replaced as a whole.

    Args:
        model: the network.
        path: the file, ``….safetensors``.
        card: what to say about it; goes into the file's header too.

    Raises:
        ValueError: another suffix.
        snnbench.results.ResultError: a file cannot be written.

    >>> import tempfile
    >>> source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(source, f"{folder}/net.safetensors", ModelCard("one layer", seed=3))
    ...     load_weights(target, f"{folder}/net.safetensors").seed
    3
    >>> bool((source.weight == target.weight).all())
    True
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights go to a file that ends in .safetensors")
    # clones: tensors that share memory (one scale for all layers) are written one by one
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    results.write_together({path: save(tensors, card.metadata()), path.with_suffix(".md"): card.markdown().encode()})


def read_card(path: str | os.PathLike[str]) -> ModelCard | None:
    """The card of a file that :func:`save_weights` wrote; ``None`` for a safetensors file without one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a readable safetensors file, or its card is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist")
    metadata = read_header(path)
    try:
        return ModelCard.from_metadata(metadata)
    except UntrustedFileError as error:
        raise ValueError(f"{path}: its model card is damaged ({brief(error)}); save the weights again") from error


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> ModelCard | None:
    """Read parameters and buffers into ``model``: a network built as the saved one was, by :func:`snnconv.prepare`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a readable safetensors file, or the weights of another network; ``model`` is as it was.
    """
    from snnconv.files.untrusted import load_weights as fill

    card = read_card(path)
    fill(model, path)
    return card
