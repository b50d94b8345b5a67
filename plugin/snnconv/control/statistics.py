"""Observation statistics of stable-baselines3's ``VecNormalize``, read from its pickle without running code."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Statistics", "StatisticsError", "read_statistics"]

CODES = {f"{kind}{size}" for kind in "fiu" for size in (4, 8)}


class StatisticsError(ValueError):
    """A file that holds no observation statistics; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Statistics:
    """Mean and variance ``[features]`` in double precision, the limit c and the ε of `Normalise`."""

    mean: Tensor
    variance: Tensor
    clip: float
    epsilon: float


class _Inert:
    """Stands for whatever class or function a pickle names: remembers what it is given and does nothing."""

    name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        self = object.__new__(cls)
        self.args, self.state = args, None  # type: ignore[attr-defined]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert(self, *args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    add = append


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type("_Inert", (_Inert,), {"name": f"{module}.{name}"})


def read_statistics(path: str | os.PathLike[str]) -> Statistics:
    """Statistics in a file that ``VecNormalize.save`` wrote.

    Every class and function that the file names is replaced by one that does nothing, so nothing of it is run; the two
    arrays are put together from their bytes.

    Raises:
        FileNotFoundError: there is no such file.
        StatisticsError: damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with open(path, "rb") as file:
            root = _Reader(file).load()
        state = root.state
        running = state["obs_rms"]
        if isinstance(running, dict) or not getattr(type(running), "name", "").endswith("RunningMeanStd"):
            raise TypeError("its observations are not one array")
        mean, variance = (_array(running.state[key]) for key in ("mean", "var"))
        if mean.shape != variance.shape or mean.ndim != 1:
            raise ValueError(f"mean {mean.shape} and variance {variance.shape} are not two vectors of one length")
        clip, epsilon = float(state["clip_obs"]), float(state["epsilon"])
    except Exception as error:  # a pickle of anything can make anything go wrong
        raise StatisticsError(
            f"{path}: holds no statistics that VecNormalize.save wrote ({type(error).__name__}: {error})"
        ) from error
    return Statistics(torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy()), clip, epsilon)


def _array(value: Any) -> np.ndarray:
    """A pickled array of numbers from its parts, in either of numpy's two ways of writing one."""
    name = type(value).name
    if name.endswith("._reconstruct"):
        _, shape, kind, fortran, data = value.state
    elif name.endswith("._frombuffer"):
        data, kind, shape, order = value.args
        fortran = order == "F"
    else:
        raise TypeError(f"{name} is no array")
    code = kind.args[0]
    if code not in CODES or fortran:
        raise TypeError(f"an array of {code!r}")
    order = kind.state[1] if kind.state else "="
    return np.frombuffer(data, np.dtype(code).newbyteorder(order)).reshape(shape).astype(np.float64)
