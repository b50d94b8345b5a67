"""Observation statistics of stable-baselines3's ``VecNormalize``, read from its pickle without running code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnconv.files.pickled import array_of, name_of, read_inert
from snnconv.files.refusal import brief

__all__ = ["Statistics", "StatisticsError", "read_statistics"]


class StatisticsError(ValueError):
    """A file that holds no observation statistics; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Statistics:
    """Mean and variance ``[features]`` in double precision, the limit c and the ε of `Normalise`."""

    mean: Tensor
    variance: Tensor
    clip: float
    epsilon: float


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
            root = read_inert(file)
        state = root.state
        running = state["obs_rms"]
        if not name_of(running).endswith("RunningMeanStd"):
            raise TypeError("its observations are not one array")
        mean, variance = (array_of(running.state[key]) for key in ("mean", "var"))
        if mean.shape != variance.shape or mean.ndim != 1:
            raise ValueError(f"mean {mean.shape} and variance {variance.shape} are not two vectors of one length")
        clip, epsilon = float(state["clip_obs"]), float(state["epsilon"])
        if not (np.isfinite([*mean, *variance, epsilon]).all() and (variance >= 0).all() and clip > 0 <= epsilon):
            raise ValueError("its numbers are not finite, or its variance, clip_obs or epsilon is below zero")
    except Exception as error:  # a pickle of anything can make anything go wrong
        raise StatisticsError(
            f"{path}: holds no statistics that VecNormalize.save wrote ({type(error).__name__}: {brief(error)})"
        ) from error
    return Statistics(torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy()), clip, epsilon)
