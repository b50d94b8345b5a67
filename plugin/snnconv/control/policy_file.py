"""Policies in files: stable-baselines3's zip files and safetensors, read without running code that they contain.

A zip of stable-baselines3 holds pickled Python objects in its JSON (under ``:serialized:``), which stay what they are:
text. The layers follow from the names and shapes in ``policy.pth``, which is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import itertools
import json
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

__all__ = ["PolicyFileError", "actor_from_state", "read_policy"]

LARGEST = 2**30
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
    names = [str(name) for name in state]
    if extra := [name for name in names if name.startswith("actor.features_extractor.")]:
        raise PolicyFileError(f"{origin} looks at images or dictionaries ({extra[0]}); converted are {KNOWN}")
    hidden = _layers(state, r"actor\.latent_pi\.(\d+)\.")
    head = _layers(state, r"actor\.mu\.(\d+)\.")
    if hidden and head:
        raise PolicyFileError(f"{origin} explores depending on the state (use_sde); converted are {KNOWN}")
    if hidden and "actor.mu.weight" in state and "actor.mu.bias" in state:
        stack = [*hidden, (state["actor.mu.weight"], state["actor.mu.bias"])]
    elif head:
        stack = head
    else:
        shown = ", ".join(names[:3])
        raise PolicyFileError(
            f"{origin} has no actor of SAC or TD3 (found: {shown or 'nothing'}); converted are {KNOWN}"
        )
    return _stacked(stack, origin)


def _layers(state: Mapping[str, Tensor], pattern: str) -> list[tuple[Tensor, Tensor]]:
    numbers = sorted({int(m[1]) for name in state if (m := re.match(pattern, name))})
    stem = pattern.replace("\\", "").split("(")[0]
    try:
        return [(state[f"{stem}{n}.weight"], state[f"{stem}{n}.bias"]) for n in numbers]
    except KeyError as error:
        raise PolicyFileError(f"this policy lacks {error}") from error


def _stacked(stack: list[tuple[Tensor, Tensor]], origin: str) -> Actor:
    """An actor of these weights and biases."""
    sizes = [stack[0][0].shape[-1], *(len(bias) for _, bias in stack)]
    shapes = [tuple(weight.shape) for weight, _ in stack]
    if len(stack) < 2 or shapes != [(b, a) for a, b in itertools.pairwise(sizes)]:
        raise PolicyFileError(f"{origin}: layers of shapes {shapes} are no chain of linear layers with a hidden one")
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
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "policy.pth" not in names or "data" not in names:
                raise PolicyFileError(f"{what} (it holds {', '.join(names[:3]) or 'nothing'})")
            data = json.loads(_entry(archive, "data", path))
            content = _entry(archive, "policy.pth", path)
    except (zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError, EOFError, OSError) as error:
        raise PolicyFileError(f"{what} ({error})") from error
    _check(data, path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make anything go wrong
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {asked[1]}, which is no part of a network's weights" if asked else "it is damaged"
        raise PolicyFileError(f"{path}: policy.pth is refused, and nothing of it was run: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise PolicyFileError(f"{path}: not a readable safetensors file ({error})") from error
    state = {name.removeprefix("network."): value for name, value in tensors.items()}
    stack = _layers(state, r"layers\.(\d+)\.")
    if not stack:
        raise PolicyFileError(f"{path} holds no actor (found: {', '.join(list(state)[:3]) or 'nothing'})")
    actor = _stacked(stack, str(path))
    if "normalise.mean" in state:
        actor.normalise = Normalise(actor.sizes[0])
        actor.normalise.load_state_dict({key: state[f"normalise.{key}"] for key in ("mean", "scale")})
    return actor
