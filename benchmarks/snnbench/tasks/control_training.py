"""Policies trained by stable-baselines3 as an mmengine training loop."""

from __future__ import annotations

import copy
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop
from torch import Tensor, nn

from snnbench.tasks.control import Policy, make_environment
from snnbench.testing.convert_hook import bare_model
from snnconv.control import Actor, Normalise, actor_from_state
from snnconv.files.atomic import writable
from snnconv.files.fingerprint import config_hash
from snnconv.files.states import write_pickle
from snnconv.files.untrusted import UntrustedFileError, read_pickle
from snnconv.progress import bars

__all__ = ["CheckpointMismatch", "PolicyTrainLoop"]

ALGORITHMS = ("SAC", "TD3")
STATE = (
    "fingerprint", "steps", "updates", "seconds", "best", "parameters", "variables", "buffer", "place", "statistics",
    "random",
)  # fmt: skip
BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class CheckpointMismatch(ValueError):
    """A training state of other settings lies in the work folder; the message says what to do."""


@LOOPS.register_module()
class PolicyTrainLoop(BaseLoop):
    """``train_cfg`` of a policy: SAC (arXiv 1801.01290) or TD3 (arXiv 1802.09477) of stable-baselines3.

    The actor is evaluated on episodes of their own as training goes on, and the best one is kept: neither the training
    nor the test episodes choose it. The state (networks, optimisers, replay buffer, statistics, random numbers) is
    stored in ``training.pt`` in the work folder; an interrupted training goes on from there, with a new episode.

    Args:
        runner: mmengine's; its model is a `Policy`, its optimiser's learning rate that of all networks.
        dataloader: of episodes: the seed of the first one seeds the training, its number is of no account.
        algorithm: ``"SAC"`` or ``"TD3"``.
        steps: environment steps in all.
        environments: that are stepped side by side.
        episode_steps: break training episodes off after so many steps (their values are bootstrapped), so that more of
            them begin; ``None``: as the environment says.
        evaluate_every: steps between evaluations.
        evaluate_from: steps before the first.
        validation: episodes of an evaluation.
        target: stop as soon as an evaluation's mean return reaches it.
        checkpoint_every: steps between stored states.
        noise: standard deviation of TD3's exploration.
        settings: of the algorithm, for instance ``gamma``, ``batch_size``, ``buffer_size``.

    Raises:
        ImportError: stable-baselines3 is not installed.
        CheckpointMismatch: the work folder holds a training of other settings.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        algorithm: str = "SAC",
        steps: int = 100_000,
        environments: int = 1,
        episode_steps: int | None = None,
        evaluate_every: int = 5000,
        evaluate_from: int = 0,
        validation: int = 10,
        target: float | None = None,
        checkpoint_every: int = 10_000,
        noise: float = 0.1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        if algorithm not in ALGORITHMS:
            raise ValueError(f"train_cfg.algorithm is one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
        self.algorithm, self.max_iters, self.environments = algorithm, int(steps), int(environments)
        self.evaluate_every, self.evaluate_from = int(evaluate_every), int(evaluate_from)
        self.validation, self.target, self.checkpoint_every = int(validation), target, int(checkpoint_every)
        self.noise, self.settings = noise, dict(settings or {})
        self.episode_steps = episode_steps
        self.iter = self.epoch = 0
        self.max_epochs = 1
        self.seed = int(runner.seed or 0)
        self.best: dict[str, Any] = {"return": -float("inf"), "steps": 0, "actor": {}}
        self.path = Path(runner.work_dir) / "training.pt"
        self.start = time.perf_counter()
        self.seconds_before = 0.0  # of the runs that were interrupted

    # ------------------------------------------------------------------ the run

    def run(self) -> nn.Module:
        """Train, and put the best actor in the model's place."""
        runner = self.runner
        runner.call_hook("before_train")
        policy = bare_model(runner.model)
        assert isinstance(policy, Policy)
        learner = self._learner(policy)
        writable(self.path, make_folder=True)
        self._restore(learner)
        chunk = max(1, int(np.gcd(self.evaluate_every, self.checkpoint_every)))
        with bars(None) as tell:
            while self.iter < self.max_iters and not self._reached():
                count = min(chunk - self.iter % chunk, self.max_iters - self.iter)
                learner.learn(count, reset_num_timesteps=False, log_interval=None)
                self.iter = learner.num_timesteps
                last = self.iter >= self.max_iters
                if last or (self.iter % self.evaluate_every == 0 and self.iter >= self.evaluate_from):
                    self._evaluate(policy, learner)
                if last or self._reached() or self.iter % self.checkpoint_every == 0:
                    self._store(learner)
                tell("training", self.iter, self.max_iters)
        policy.network.load_state_dict(self.best["actor"])
        learner.env.close()
        self.epoch = 1
        runner.message_hub.update_scalar("val/return", self.best["return"])
        runner.message_hub.update_scalar("val/steps", self.best["steps"])
        runner.call_hook("after_train")
        return runner.model

    def _reached(self) -> bool:
        return self.target is not None and self.best["return"] >= self.target

    def _evaluate(self, policy: Policy, learner: Any) -> None:
        """Mean return of the learner's actor now; the best one is remembered."""
        policy.network.load_state_dict(_actor(learner, policy.network).state_dict())
        draw = _random_state()  # evaluation leaves the training's numbers as they are
        returns, _ = policy.play([10**6 + k for k in range(self.validation)])
        _set_random_state(draw)
        mean = float(returns.mean())
        if mean > self.best["return"]:
            state = {name: value.clone() for name, value in policy.network.state_dict().items()}
            self.best = {"return": mean, "steps": self.iter, "actor": state}
        self.runner.logger.info(
            f"step {self.iter:,}: return {mean:.1f} ± {returns.std():.1f} over {self.validation} episodes, "
            f"best {self.best['return']:.1f} at step {self.best['steps']:,}"
        )

    def _learner(self, policy: Policy) -> Any:
        try:
            import stable_baselines3
            from stable_baselines3.common.noise import NormalActionNoise
            from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
        except ImportError as error:
            raise ImportError('training needs stable-baselines3: pip install "snnconv-plugin[control]"') from error
        make = partial(make_environment, policy.env, steps=self.episode_steps)
        envs: Any = DummyVecEnv([make] * self.environments)
        layer = policy.network.normalise
        if isinstance(layer, Normalise):
            envs = VecNormalize(envs, norm_reward=False, clip_obs=layer.clip, epsilon=layer.epsilon)
        settings = dict(self.settings)
        if self.algorithm == "TD3":
            size = envs.action_space.shape[0]
            settings.setdefault("action_noise", NormalActionNoise(np.zeros(size), np.full(size, self.noise)))
        return getattr(stable_baselines3, self.algorithm)(
            "MlpPolicy",
            envs,
            seed=self.seed,
            learning_rate=self.runner.optim_wrapper.optimizer.defaults["lr"],
            policy_kwargs=dict(net_arch=list(policy.hidden), activation_fn=nn.ReLU, optimizer_kwargs=dict(fused=True)),
            device=next(policy.parameters()).device,
            **settings,
        )

    # ------------------------------------------------------------------ interruption

    def _fingerprint(self) -> str:
        model: Any = bare_model(self.runner.model)
        decides = [model.env, model.hidden, model.network.normalised, self.algorithm, self.environments, self.noise]
        rate = self.runner.optim_wrapper.optimizer.defaults["lr"]
        return config_hash({"decides": [*decides, self.episode_steps, self.settings, rate, self.seed]})

    def _store(self, learner: Any) -> None:
        buffer = learner.replay_buffer
        filled = buffer.buffer_size if buffer.full else buffer.pos
        content = {
            "fingerprint": self._fingerprint(),
            "steps": learner.num_timesteps,
            "updates": learner._n_updates,
            "seconds": self.seconds_before + time.perf_counter() - self.start,
            "best": self.best,
            "parameters": learner.get_parameters(),
            "variables": {name: getattr(learner, name).detach() for name in _variables(learner)},
            "buffer": {name: torch.from_numpy(getattr(buffer, name)[:filled]) for name in BUFFER},
            "place": [buffer.pos, buffer.full],
            "statistics": _statistics(learner),
            "random": _random_state(),
        }
        write_pickle(self.path, content)

    def _restore(self, learner: Any) -> None:
        if not self.path.is_file():
            return
        try:
            content = read_pickle(self.path)
        except UntrustedFileError as error:
            raise CheckpointMismatch(f"{error}, or remove it to train anew") from error
        lacking = [name for name in STATE if not isinstance(content, dict) or name not in content]
        if lacking:
            raise CheckpointMismatch(
                f"{self.path} holds no state of a training (no {lacking[0]}): remove it to train anew"
            )
        if content["fingerprint"] != self._fingerprint():
            raise CheckpointMismatch(
                f"{self.path} is the state of a training with other settings: remove it, or name another --work-dir"
            )
        learner.set_parameters(content["parameters"], device=learner.device)
        for name, value in content["variables"].items():
            getattr(learner, name).data.copy_(value)
        buffer = learner.replay_buffer
        for name, values in content["buffer"].items():
            getattr(buffer, name)[: len(values)] = values.numpy()
        buffer.pos, buffer.full = content["place"]
        _set_statistics(learner, content["statistics"])
        learner.num_timesteps, learner._n_updates = content["steps"], content["updates"]
        self.best, self.iter = content["best"], content["steps"]
        self.seconds_before = content["seconds"]
        learner.env.seed(self.seed + self.iter)  # other episodes than those before
        _set_random_state(content["random"])
        self.runner.logger.info(f"resumed: {self.iter:,} of {self.max_iters:,} steps are done")


def _actor(learner: Any, like: Actor) -> Actor:
    """The learner's actor, with the observations' statistics."""
    actor = actor_from_state(learner.policy.state_dict())
    if isinstance(like.normalise, Normalise):
        running = learner.env.obs_rms
        actor.normalise = Normalise(actor.sizes[0], like.normalise.clip, like.normalise.epsilon)
        actor.normalise.set(torch.as_tensor(running.mean), torch.as_tensor(running.var))
    return actor


def _variables(learner: Any) -> list[str]:
    """Tensors that belong to no network: SAC's entropy coefficient."""
    return [name for name in ("log_ent_coef",) if isinstance(getattr(learner, name, None), Tensor)]


def _statistics(learner: Any) -> dict[str, Any] | None:
    running = getattr(learner.env, "obs_rms", None)
    if running is None:
        return None
    return {"mean": torch.as_tensor(running.mean), "var": torch.as_tensor(running.var), "count": float(running.count)}


def _set_statistics(learner: Any, stored: dict[str, Any] | None) -> None:
    if stored is not None:
        running = learner.env.obs_rms
        running.mean, running.var = stored["mean"].numpy().copy(), stored["var"].numpy().copy()
        running.count = stored["count"]


def _random_state() -> dict[str, Any]:
    """What torch and numpy draw from."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - what stable-baselines3 draws from
    name, keys, place, has_gauss, cached = legacy
    return {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(copy.copy(keys).astype(np.int64)), int(place), int(has_gauss), float(cached)],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
