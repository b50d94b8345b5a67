"""What the command line is given: a network, its weights, images, and a method with its settings."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["Data", "InputError", "load_data", "load_model", "make_method", "method_classes", "method_fields"]

BATCH = 50


class InputError(ValueError):
    """Something on the command line cannot be used; the message says what, and what to do next."""


@dataclass(frozen=True)
class Data:
    """Inputs ``x`` with labels ``y`` where there are any; images are read when a batch is asked for."""

    source: Any
    count: int
    labelled: bool

    def batches(self, limit: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Batches in order, up to ``limit`` inputs."""
        count = self.count if limit is None else min(limit, self.count)
        for start in range(0, count, BATCH):
            yield self._slice(start, min(start + BATCH, count))

    def inputs(self, limit: int | None = None) -> list[torch.Tensor]:
        """The inputs alone, spread evenly over the whole set: a folder of images is sorted by class."""
        count = self.count if limit is None else min(limit, self.count)
        picked = torch.linspace(0, self.count - 1, count).round().long().tolist()
        return [self._pick(picked[i : i + BATCH]) for i in range(0, count, BATCH)]

    def tensors(self, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Inputs spread evenly over the whole set in one tensor, and their labels where there are any."""
        count = self.count if limit is None else min(limit, self.count)
        picked = torch.linspace(0, self.count - 1, count).round().long().tolist()
        if isinstance(self.source, dict):
            return self.source["x"][picked], self.source["y"][picked] if self.labelled else None
        items = [self.source[i] for i in picked]
        return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])

    def _slice(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        if isinstance(self.source, dict):
            y = self.source["y"][start:stop] if self.labelled else None
            return self.source["x"][start:stop], y
        items = [self.source[i] for i in range(start, stop)]
        return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])

    def _pick(self, index: list[int]) -> torch.Tensor:
        if isinstance(self.source, dict):
            return self.source["x"][index]
        return torch.stack([self.source[i][0] for i in index])


def load_model(spec: str, weights: Path | None, classes: int | None, pretrained: bool) -> nn.Module:
    """The network of a spec ``torchvision:name``, ``timm:name`` or ``file.py:function``, in eval mode."""
    kind, separator, name = spec.rpartition(":")
    if not separator or not name:
        raise InputError(f"{spec!r} names no network: write torchvision:resnet18, timm:resnet26 or file.py:function")
    if kind == "torchvision":
        model = _torchvision(name, classes, pretrained)
    elif kind == "timm":
        model = _timm(name, classes, pretrained)
    elif kind.endswith(".py"):
        if classes is not None or pretrained:
            raise InputError("--classes and --pretrained belong to torchvision: and timm: networks")
        model = _factory(Path(kind), name)
    else:
        raise InputError(f"{kind!r} is neither torchvision, timm nor a .py file")
    if weights is not None:
        _load_weights(model, weights)
    return model.eval()


def _torchvision(name: str, classes: int | None, pretrained: bool) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise InputError("torchvision is not installed: pip install torchvision") from error
    if name not in models.list_models():
        raise InputError(f"torchvision has no model {name!r}; torchvision.models.list_models() names them")
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3") and not pretrained:
        options |= {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights="DEFAULT" if pretrained else None, **options)


def _timm(name: str, classes: int | None, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise InputError("timm is not installed: pip install timm") from error
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"timm has no model {name!r}; timm.list_models() names them")
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    return timm.create_model(name, pretrained=pretrained, **options)


def _factory(path: Path, name: str) -> nn.Module:
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path} fails on import: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        own = [v for v in vars(module).values() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise InputError(f"{path} has no function {name!r}; it has: {', '.join(v.__name__ for v in own) or 'none'}")
    model = factory()
    if not isinstance(model, nn.Module):
        raise InputError(f"{path}:{name} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    state = _read_tensors(path, "weights")
    for key in ("state_dict", "model"):  # what training scripts wrap around the parameters
        if isinstance(state.get(key), Mapping):
            state = state[key]
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    if missing or unknown:
        raise InputError(
            f"{path} does not fit this network: {len(missing)} parameters missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit this network: {reason}") from error


def _read_tensors(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{what} file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(str(path)))
        if path.suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as file:
                return {key: torch.from_numpy(file[key]) for key in file.files}
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen types for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read as {path.suffix or 'a file of tensors'} ({reason}); files that need more "
            "than weights_only=True are refused, because they can run code"
        ) from error
    if isinstance(content, torch.Tensor):
        return {"x": content}
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not named tensors")
    return dict(content)


def load_data(path: Path, size: int, mean: str, std: str) -> Data:
    """An ImageFolder directory (resized, cropped, normalised), or a file with a tensor x, and y for labels.

    Tensors in a file are taken as they are, uint8 excepted, which is scaled and normalised like an image.
    """
    means, stds = _numbers(mean, "--mean"), _numbers(std, "--std")
    if any(value <= 0 for value in stds):
        raise InputError(f"--std needs numbers above zero, got {std}")
    if path.is_dir():
        return _image_folder(path, size, means, stds)
    tensors = _read_tensors(path, "data")
    x, y = tensors.get("x"), tensors.get("y")
    if not isinstance(x, torch.Tensor):
        raise InputError(f"{path} holds no tensor 'x'; it has: {', '.join(map(str, tensors)) or 'nothing'}")
    if x.dim() < 2 or not len(x):
        raise InputError(f"{path}: x has shape {tuple(x.shape)}; it needs a leading batch axis and an input")
    if x.dtype == torch.uint8:
        if x.dim() != 4 or x.shape[1] not in (1, len(means)):
            raise InputError(f"{path}: uint8 images must be [N, C, H, W] with {len(means)} channels")
        view = (1, -1, 1, 1)
        x = (x.float() / 255 - torch.tensor(means).view(view)) / torch.tensor(stds).view(view)
    elif x.is_floating_point():
        x = x.float()
    if y is not None and (y.dim() != 1 or len(y) != len(x)):
        raise InputError(f"{path}: y has shape {tuple(y.shape)}, expected [{len(x)}] class numbers")
    return Data({"x": x, "y": y}, len(x), y is not None)


def _image_folder(path: Path, size: int, mean: list[float], std: list[float]) -> Data:
    try:
        from torchvision import datasets, transforms
    except ImportError as error:
        raise InputError("reading a folder of images needs torchvision: pip install torchvision") from error
    if size < 1:
        raise InputError(f"--size is at least 1, got {size}")
    transform = transforms.Compose(
        [
            transforms.Resize(round(size * 256 / 224)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    try:
        folder = datasets.ImageFolder(str(path), transform)
    except (FileNotFoundError, OSError) as error:
        raise InputError(f"{path} is not a folder of images, one subfolder a class: {error}") from error
    return Data(folder, len(folder), True)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} takes numbers separated by commas, got {text!r}") from error


def method_classes() -> dict[str, type]:
    """Command-line name → dataclass, for every method in `snnconv.methods` and of packages that join by entry point."""
    from snnconv import methods

    methods.base.load_installed()
    return {name.replace("_", "-"): cls for name, cls in methods.METHODS.items()}


def method_fields() -> dict[str, str]:
    """Field of any method → help text naming the methods that have it, with their defaults."""
    owners: dict[str, list[str]] = {}
    for name, cls in method_classes().items():
        for field in dataclasses.fields(cls):
            if field.init:
                default = "" if field.default is dataclasses.MISSING else f" = {field.default}"
                owners.setdefault(field.name, []).append(f"{name}{default}")
    return {field: ", ".join(names) for field, names in owners.items()}


def make_method(name: str, settings: Mapping[str, str | None]) -> Any:
    """The method ``name`` with the settings given on the command line, validated by the method itself."""
    classes = method_classes()
    if name not in classes:
        raise InputError(f"no method {name!r}; there are: {', '.join(classes)}")
    cls = classes[name]
    given = {key: _value(text) for key, text in settings.items() if text is not None}
    own = {field.name for field in dataclasses.fields(cls) if field.init}
    if foreign := [f"--{key.replace('_', '-')}" for key in given if key not in own]:
        raise InputError(f"{name} has no {', '.join(foreign)}; it has: {', '.join(sorted(own))}")
    needed = [f.name for f in dataclasses.fields(cls) if f.init and f.default is dataclasses.MISSING]
    if missing := [f"--{key.replace('_', '-')}" for key in needed if key not in given]:
        raise InputError(f"{name} needs {' and '.join(missing)}; for instance: {missing[0]} 8")
    try:
        return cls(**given)
    except TypeError as error:
        raise InputError(f"{name}: {str(error).replace(f'{cls.__name__}.__init__() ', '')}") from error


def _value(text: str) -> Any:
    """A setting as the type it looks like: none, a truth value, an integer, a number, else the text."""
    lowered = text.strip().lower()
    if lowered in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[lowered]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
