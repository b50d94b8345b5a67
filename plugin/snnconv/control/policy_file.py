"""Policies in files: stable-baselines3's zip files and safetensors, read without running code that they contain.

A zip of stable-baselines3 holds pickled Python objects in its JSON (under ``:serialized:``), which stay what they are:
text. The layers follow from the names and shapes in ``policy.pth``, which is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconv.control.actor import Actor, Normalise
from snnconv.control.statistics import read_statistics
from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_json, read_pickle, read_safetensors, refused_as
from snnconv.files.zips import opened

__all__ = ["PolicyFileError", "actor_from_state", "read_policy"]

LARGEST = 2**30
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
KNOWN = "SAC, TD3 and DDPG policies with linear layers and ReLU"


class PolicyFileError(ValueError):
    """A file that is no policy, or one that cannot be converted; the message names it and says why."""


def read_policy(path: str | os.PathLike[str], statistics: str | os.PathLike[str] | None = None) -> Actor:
    """The actor of a policy file.

    Args:
        path: a ``.zip`` that stable-baselines3's ``model.save`` wrote, or a ``.safetensors`` that ``snnconv train``
            wrote.
        statistics: what ``VecNormalize.save`` wrote in the same training, if observations were normalised.

    Raises:
        FileNotFoundError: there is no such file.
        PolicyFileError: damaged, no policy, or one that does not convert: other activations than ReLU, images as
            observations, state-dependent exploration, another algorithm.
        snnconv.control.statistics.StatisticsError: a statistics file that is none.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        raise PolicyFileError(f"{path} is a folder; give the policy file in it")
    actor = _from_safetensors(path) if path.suffix == ".safetensors" else _from_zip(path)
    if statistics is None:
        return actor
    if actor.normalised:
        raise PolicyFileError(f"{path} holds observation statistics already: leave out {statistics}")
    found = read_statistics(statistics)
    if len(found.mean) != actor.sizes[0]:
        raise PolicyFileError(
            f"{statistics}: statistics of {len(found.mean)} values, but {path} takes observations of {actor.sizes[0]}"
        )
    actor.normalise = Normalise(actor.sizes[0], found.clip, found.epsilon)
    actor.normalise.set(found.mean, found.variance)
    return actor


def actor_from_state(state: Mapping[str, Tensor], origin: str = "this policy") -> Actor:
    """The actor in the parameters of a stable-baselines3 policy.

    Args:
        state: parameter name → tensor: ``actor.latent_pi.0.weight`` … ``actor.mu.weight`` (SAC), ``actor.mu.0.weight``
            … (TD3, DDPG).
        origin: for error messages.

    Raises:
        PolicyFileError: other names, or shapes that do not fit together.

    >>> weights = {"0": torch.ones(4, 3), "2": torch.ones(2, 4)}
    >>> state = {f"actor.mu.{i}.weight": w for i, w in weights.items()}
    >>> state |= {f"actor.mu.{i}.bias": torch.zeros(len(w)) for i, w in weights.items()}
    >>> actor_from_state(state).sizes
    [3, 4, 2]
    """
    _check_tensors(state, origin)
    names = list(state)
    if extra := [name for name in names if name.startswith("actor.features_extractor.")]:
        raise PolicyFileError(f"{origin} looks at images or dictionaries ({brief(extra[0])}); converted are {KNOWN}")
    hidden = _layers(state, "actor.latent_pi.", origin)
    head = _layers(state, "actor.mu.", origin)
    if hidden and head:
        raise PolicyFileError(f"{origin} explores depending on the state (use_sde); converted are {KNOWN}")
    if hidden and "actor.mu.weight" in state and "actor.mu.bias" in state:
        stack = [*hidden, (state["actor.mu.weight"], state["actor.mu.bias"])]
    elif head:
        stack = head
    else:
        shown = ", ".join(names[:3])
        raise PolicyFileError(
            f"{origin} has no actor of SAC or TD3 (found: {brief(shown) or 'nothing'}); converted are {KNOWN}"
        )
    return _stacked(stack, origin)


def _check_tensors(state: Mapping[Any, Any], origin: str) -> None:
    """Refuse what is no tensor with a name, NaN and infinite numbers, and tensors that claim more than they hold."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PolicyFileError(f"{origin}: {name!r:.200} is no name with a tensor, so no parameter")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise PolicyFileError(f"{origin}: {brief(name)} is no plain tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise PolicyFileError(f"{origin}: {brief(name)} claims more numbers than it holds")
        if value.dtype in _FLOATS and not bool(value.isfinite().all()):
            raise PolicyFileError(f"{origin}: {brief(name)} has NaN or infinite values")


def _layers(state: Mapping[str, Tensor], stem: str, origin: str) -> list[tuple[Tensor, Tensor]]:
    numbers = sorted({int(m[1]) for name in state if (m := re.match(re.escape(stem) + r"(\d{1,6})\.", name))})
    try:
        return [(state[f"{stem}{n}.weight"], state[f"{stem}{n}.bias"]) for n in numbers]
    except KeyError as error:
        raise PolicyFileError(f"{origin} lacks {brief(error)}") from error


def _stacked(stack: list[tuple[Tensor, Tensor]], origin: str) -> Actor:
    """An actor of these weights and biases."""
    shapes = [tuple(weight.shape) for weight, _ in stack]
    pairs = zip(shapes, stack, strict=True)
    fits = all(len(shape) == 2 and bias.shape == shape[:1] and 0 not in shape for shape, (_, bias) in pairs)
    sizes = [shapes[0][1], *(shape[0] for shape in shapes)] if fits else []
    if len(stack) < 2 or shapes != [(b, a) for a, b in itertools.pairwise(sizes)]:
        raise PolicyFileError(f"{origin}: layers of shapes {shapes} are no chain of linear layers with a hidden one")
    if not all(value.dtype in _FLOATS for layer in stack for value in layer):
        raise PolicyFileError(f"{origin}: its weights are {stack[0][0].dtype}, no floating-point numbers")
    actor = Actor(sizes).eval()
    linear = [m for m in actor.layers if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, stack, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return actor


# --- stable-baselines3 -------------------------------------------------------------------------------------


def _from_zip(path: Path) -> Actor:
    what = f"{path}: not a policy: neither a zip that stable-baselines3 saved nor .safetensors that snnconv train wrote"
    try:
        with opened(path) as archive:
            names = archive.namelist()
            if "policy.pth" not in names or "data" not in names:
                raise PolicyFileError(f"{what} (it holds {brief(', '.join(names[:3])) or 'nothing'})")
            text = _entry(archive, "data", path)
            content = _entry(archive, "policy.pth", path)
    except (UntrustedFileError, OSError) as error:
        raise PolicyFileError(f"{what} ({brief(error)})") from error
    with refused_as(PolicyFileError):
        _check(read_json(text, f"{path}: data"), path)
        state = read_pickle(io.BytesIO(content), f"{path}: policy.pth")
    if not isinstance(state, Mapping):
        raise PolicyFileError(f"{path}: policy.pth holds no dict of tensors")
    return actor_from_state(state, str(path))


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if archive.getinfo(name).file_size > LARGEST:
        raise PolicyFileError(f"{path}: {name} claims to be larger than {LARGEST // 2**30} GiB")
    return archive.read(name)


def _check(data: Any, path: Path) -> None:
    """What the settings, as text, say against a conversion."""
    settings = data.get("policy_kwargs") if isinstance(data, Mapping) else None
    activation = str(settings.get("activation_fn", "ReLU")) if isinstance(settings, Mapping) else "ReLU"
    if not re.search(r"\bReLU\b", activation):
        name = activation.strip("<>'").rpartition(".")[2].strip("'>")
        raise PolicyFileError(
            f"{path}: its activation is {name}, which has no spiking equivalent: train it with "
            "policy_kwargs=dict(activation_fn=torch.nn.ReLU)"
        )


# --- safetensors -------------------------------------------------------------------------------------------


def _from_safetensors(path: Path) -> Actor:
    with refused_as(PolicyFileError):
        tensors, _ = read_safetensors(path)
    _check_tensors(tensors, str(path))
    state = {name.removeprefix("network."): value for name, value in tensors.items()}
    stack = _layers(state, "layers.", str(path))
    if not stack:
        raise PolicyFileError(f"{path} holds no actor (found: {brief(', '.join(list(state)[:3])) or 'nothing'})")
    actor = _stacked(stack, str(path))
    statistics = {key: state[f"normalise.{key}"] for key in ("mean", "scale") if f"normalise.{key}" in state}
    if statistics:
        shapes = {key: tuple(value.shape) for key, value in statistics.items()}
        if shapes != {"mean": (actor.sizes[0],), "scale": (actor.sizes[0],)}:
            raise PolicyFileError(
                f"{path}: its observation statistics have the shapes {shapes}; a mean and a scale of {actor.sizes[0]} "
                "values each are needed"
            )
        actor.normalise = Normalise(actor.sizes[0])
        actor.normalise.load_state_dict(statistics)
    return actor
