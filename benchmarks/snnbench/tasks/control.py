"""Continuous control on mmengine's runner: episodes as a data set, a policy as the model, the return as the metric.

A sample is the seed of an episode; a batch of seeds is played in as many environments side by side. The model plays
them with its ``network``, the actor, in whose place a converted one plays the same episodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset

from snnbench.data.roots import resolve
from snnbench.registry import DATASETS, METRICS, MODELS
from snnconv.control import Actor, PolicyFileError, read_policy

__all__ = ["AverageReturn", "Episodes", "Policy", "make_environment"]

PICTURE = 240
WatchFn = Callable[[int, int, np.ndarray], None]
"""``watch(seed, frames_a_second, picture)`` with every frame of an episode."""


@DATASETS.register_module()
class Episodes(Dataset[dict[str, Any]]):
    """Seeds of episodes: ``seed``, ``seed + 1``, …

    Args:
        episodes: how many.
        seed: of the first.
        steps: play so many steps of each at most, for calibration on beginnings; ``None``: until it is over.
        indices: only the first so many.

    >>> Episodes(episodes=2, seed=7)[1]
    {'inputs': 8}
    """

    def __init__(
        self, episodes: int = 20, seed: int = 1000, steps: int | None = None, indices: int | None = None
    ) -> None:
        if episodes < 1 or (steps is not None and steps < 1):
            raise ValueError(f"episodes and steps are numbers from 1, got {episodes} and {steps}")
        self.steps = steps
        self.episodes = episodes if indices is None else min(episodes, indices)
        self.seed = seed

    def __len__(self) -> int:
        return self.episodes

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.episodes:
            raise IndexError(index)
        return {"inputs": self.seed + index} | ({} if self.steps is None else {"data_samples": self.steps})


def make_environment(env: str, picture: bool = False, steps: int | None = None) -> Any:
    """gymnasium's environment ``env``, with pictures for a video where they are asked for.

    Args:
        env: its name with the version.
        picture: whether it can be drawn.
        steps: break episodes off after so many; ``None``: as the environment says.

    Raises:
        ImportError: gymnasium or MuJoCo is not installed.
        ValueError: no such environment, or one whose observations or actions are no vectors of numbers.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError('environments need gymnasium and MuJoCo: pip install "snnconv-plugin[control]"') from error
    try:
        if picture:
            made = gymnasium.make(env, steps, render_mode="rgb_array", width=PICTURE, height=PICTURE)
        else:
            made = gymnasium.make(env, steps)
    except (gymnasium.error.DependencyNotInstalled, gymnasium.error.MissingArgument) as error:
        raise ImportError(f'{env}: {error}: pip install "snnconv-plugin[control]"') from error
    except gymnasium.error.Error as error:
        raise ValueError(f"gymnasium has no environment {env!r}: {error}") from error
    box = gymnasium.spaces.Box
    spaces = made.observation_space, made.action_space
    vectors = all(isinstance(space, box) and len(space.shape) == 1 for space in spaces)
    if not vectors or not spaces[1].is_bounded():  # type: ignore[attr-defined]
        raise ValueError(f"{env}: observations and actions must be vectors, actions bounded; got {spaces}")
    return made


@MODELS.register_module()
class Policy(BaseModel):
    """An actor in its environment: ``predict`` plays episodes and says what they returned.

    Every call of the actor is one inference: a converted one runs its T steps from a fresh state, its readout (behind
    its delay) goes through ``tanh`` and is scaled to the bounds of the actions. Every environment is seeded, and plays
    one episode; one that is over waits for the others.

    Args:
        env: gymnasium's name of the environment, with its version: ``"Hopper-v5"``.
        hidden: widths of the actor's layers, where it is trained here.
        normalised: whether observations are normalised by statistics that training gathers, where it is trained here.
        policy: a file to take the actor from instead, see `snnconv.control.read_policy`; may be a ``dataset:`` string.
        statistics: what ``VecNormalize.save`` wrote beside it.
        vectorised: ``"sync"``, or ``"async"``: each environment in a process of its own.
        data_preprocessor: mmengine's.

    Raises:
        PolicyFileError: no policy, or one of other observations or actions than the environment's.
        ValueError: no such environment.
    """

    closed_loop = True  # what the network answers decides what it sees next
    network: Actor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        env: str,
        hidden: Sequence[int] = (64, 64),
        normalised: bool = False,
        policy: str | None = None,
        statistics: str | None = None,
        vectorised: str = "sync",
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if vectorised not in ("sync", "async"):
            raise ValueError(f"vectorised is 'sync' or 'async', got {vectorised!r}")
        self.env, self.hidden, self.vectorised = env, tuple(hidden), vectorised
        example = make_environment(env)
        inputs, outputs = example.observation_space.shape[0], example.action_space.shape[0]
        self.register_buffer("low", torch.as_tensor(example.action_space.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(example.action_space.high), persistent=False)
        example.close()
        if policy is None:
            self.network = Actor([inputs, *self.hidden, outputs], normalised)
        else:
            self.network = read_policy(resolve(policy), None if statistics is None else resolve(statistics))
            got = self.network.sizes[0], self.network.sizes[-1]
            if got != (inputs, outputs):
                raise PolicyFileError(
                    f"{policy} maps {got[0]} observations to {got[1]} actions, but {env} gives {inputs} and takes "
                    f"{outputs}"
                )
        self._made: dict[Any, Any] = {}
        self._wanted: Callable[[int], bool] | None = None
        self._watch: WatchFn | None = None

    def init_weights(self) -> None:
        """Nothing: mmengine would overwrite the weights of a policy file."""

    def record(self, wanted: Callable[[int], bool], watch: WatchFn) -> None:
        """From now on, hand every frame of the episodes whose seeds are ``wanted`` to ``watch``."""
        if not os.environ.get("DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")
        self._wanted, self._watch = wanted, watch

    def act(self, observations: Any) -> np.ndarray:
        """Actions ``[B, m]`` for observations ``[B, n]``."""
        inputs = torch.as_tensor(np.asarray(observations), dtype=torch.float32, device=self.low.device)
        with torch.no_grad():
            squashed = torch.tanh(self.network(inputs))
            actions = self.low + (squashed + 1) * 0.5 * (self.high - self.low)
        return np.asarray(actions.cpu().numpy())

    def forward(self, inputs: Sequence[int], data_samples: Any = None, mode: str = "predict") -> Any:
        """Play the episodes with the seeds ``inputs``; each gives ``episode_return``, ``steps`` and its ``seed``.

        ``data_samples``, where given, are the steps after which they are broken off.
        """
        if mode != "predict":
            raise ValueError(f"a policy plays episodes (mode='predict'), got mode={mode!r}")
        seeds = [int(seed) for seed in inputs]
        returns, steps = self.play(seeds, None if data_samples is None else max(data_samples))
        return [
            BaseDataElement(episode_return=float(r), steps=int(n), seed=s)
            for r, n, s in zip(returns, steps, seeds, strict=True)
        ]

    def play(self, seeds: Sequence[int], limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return and length of one episode from each seed, all side by side, of ``limit`` steps at most."""
        seen = [self._wanted is not None and self._wanted(seed) for seed in seeds]
        envs = self._environments(seen)
        observations, _ = envs.reset(seed=list(seeds))
        running = np.ones(len(seeds), bool)
        returns, steps = np.zeros(len(seeds)), np.zeros(len(seeds), int)
        while running.any() and (limit is None or steps.max() < limit):
            if any(seen):
                self._show(envs, [i for i, shown in enumerate(seen) if shown and running[i]], seeds)
            observations, rewards, ended, truncated, _ = envs.step(self.act(observations))
            returns += np.where(running, rewards, 0.0)
            steps += running
            running &= ~(ended | truncated)
        return returns, steps

    def _environments(self, seen: Sequence[bool]) -> Any:
        """As many environments, those that are seen with pictures; made once, seeded anew for every batch."""
        key = tuple(seen)
        if key not in self._made:
            from gymnasium import vector

            kind = vector.AsyncVectorEnv if self.vectorised == "async" and not any(seen) else vector.SyncVectorEnv
            self._made[key] = kind([partial(make_environment, self.env, shown) for shown in seen])
        return self._made[key]

    def _show(self, envs: Any, places: Sequence[int], seeds: Sequence[int]) -> None:
        assert self._watch is not None
        for place in places:
            env = envs.envs[place]
            try:
                picture = env.render()
            except Exception as error:  # the graphics library's own errors, of any kind
                raise RuntimeError(
                    f"{self.env} cannot be drawn here ({type(error).__name__}: {error}): without a display, set "
                    "MUJOCO_GL=egl (a graphics card's or Mesa's) or MUJOCO_GL=osmesa"
                ) from error
            self._watch(seeds[place], int(env.metadata.get("render_fps", 30)), picture)


@METRICS.register_module()
class AverageReturn(BaseMetric):
    """Mean over episodes of the undiscounted ``return``, with its spread, and of the ``steps`` until they ended.

    ``return_std`` is the standard deviation over episodes (of the population), ``return_min`` and ``return_max`` the
    extremes.

    >>> metric = AverageReturn()
    >>> metric.process({}, [{"episode_return": 1.0, "steps": 5}, {"episode_return": 3.0, "steps": 7}])
    >>> metric.compute_metrics(metric.results)
    {'return': 2.0, 'return_std': 1.0, 'return_min': 1.0, 'return_max': 3.0, 'steps': 6.0}
    """

    default_prefix = "control"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results.extend((float(s["episode_return"]), int(s["steps"])) for s in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        returns, steps = (np.array(column, float) for column in zip(*results, strict=True))
        return {
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
            "steps": float(steps.mean()),
        }
