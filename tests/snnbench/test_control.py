"""Continuous control: policy files, episodes, membranes between environment steps, training, a run of the harness."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")
pytest.importorskip("gymnasium", reason="needs the control extra")
pytest.importorskip("mujoco", reason="needs the control extra")
pytest.importorskip("stable_baselines3", reason="needs the control extra")

import gymnasium
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import snnconv
from snnbench import results
from snnbench.config import BenchError, load_config
from snnbench.data.clips import read_clips
from snnbench.run import run_config
from snnbench.tasks.control import AverageReturn, Episodes, Policy, make_environment
from snnbench.tasks.control_training import CheckpointMismatch
from snnbench.testing.episode_video import EpisodeVideos
from snnbench.testing.model_parts import find_parts
from snnbench.train import train
from snnbench.weights.card import ModelCard, save_weights
from snnconv import ConversionError, methods
from snnconv.control import Actor, Normalise, PolicyFileError, read_policy, read_statistics
from snnconv.control.statistics import StatisticsError
from snnconv.sequence import Continued

ROOT = Path(__file__).parents[2]
ENV = "InvertedDoublePendulum-v5"
CONFIGS = sorted((ROOT / "configs/control").glob("*/*.py"))
PENDULUM = ROOT / "configs/control/inverted_double_pendulum/sac.py"
SMALL = {
    "train_cfg.steps": 300,
    "train_cfg.evaluate_every": 100,
    "train_cfg.evaluate_from": 0,
    "train_cfg.checkpoint_every": 100,
    "train_cfg.validation": 2,
    "train_cfg.settings.buffer_size": 1000,
    "model.hidden": (8, 8),
    "test_dataloader.dataset.episodes": 3,
    "bench.profile_images": 4,
    "bench.calibration.images": 8,
}


def learner(kind: Any = SAC, env: Any = ENV, **settings: Any) -> Any:
    return kind("MlpPolicy", env, policy_kwargs=dict(net_arch=[16, 8], activation_fn=nn.ReLU), device="cpu", seed=0,
                **settings)  # fmt: skip


def rewritten(source: Path, target: Path, **entries: bytes) -> Path:
    """A copy of a zip with some entries replaced (``policy_pth`` stands for ``policy.pth``)."""
    new = {name.replace("_pth", ".pth"): value for name, value in entries.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as out:
        for name in old.namelist():
            out.writestr(name, new.get(name, old.read(name)))
    return target


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class TestPolicyFiles:
    @pytest.mark.parametrize("kind", [SAC, TD3])
    def test_the_actor_acts_as_stable_baselines3(self, kind: Any, tmp_path: Path) -> None:
        model = learner(kind)
        model.save(tmp_path / "policy.zip")
        policy = Policy(ENV, policy=str(tmp_path / "policy.zip"))
        assert policy.network.sizes == [9, 16, 8, 1]
        observations = np.random.default_rng(0).normal(size=(20, 9))
        expected, _ = model.predict(observations, deterministic=True)
        np.testing.assert_allclose(policy.act(observations), expected, atol=1e-5)

    def test_normalised_observations(self, tmp_path: Path) -> None:
        """... act as with VecNormalize, and the saved spiking network holds the statistics."""
        env = VecNormalize(DummyVecEnv([lambda: gymnasium.make(ENV)]), clip_obs=5.0, norm_reward=False)
        model = learner(env=env, learning_starts=50)
        model.learn(60)
        model.save(tmp_path / "policy.zip")
        env.save(str(tmp_path / "stats.pkl"))
        found = read_statistics(tmp_path / "stats.pkl")
        np.testing.assert_array_equal(found.mean.numpy(), env.obs_rms.mean)
        np.testing.assert_array_equal(found.variance.numpy(), env.obs_rms.var)
        assert (found.clip, found.epsilon) == (5.0, env.epsilon)
        policy = Policy(ENV, policy=str(tmp_path / "policy.zip"), statistics=str(tmp_path / "stats.pkl"))
        observations = np.random.default_rng(0).normal(scale=3.0, size=(64, 9))
        expected, _ = model.predict(env.normalize_obs(observations), deterministic=True)
        np.testing.assert_allclose(policy.act(observations), expected, atol=1e-5)
        x = torch.as_tensor(observations, dtype=torch.float32)
        snn = snnconv.convert(policy.network, methods.SignedIF(timesteps=32), calibration=x, progress=False)
        snnconv.save(snn, tmp_path / "actor.snn.safetensors")
        again = snnconv.load(tmp_path / "actor.snn.safetensors")
        torch.testing.assert_close(again(x), snn(x), rtol=0, atol=0)
        exact = policy.network(x).detach()
        assert float((again(x) - exact).abs().mean()) < 0.1 * float(exact.abs().mean())

    def test_what_was_trained_here_is_read_again(self, tmp_path: Path) -> None:
        policy = Policy(ENV, hidden=(4, 5), normalised=True)
        layer = policy.network.normalise
        assert isinstance(layer, Normalise)
        layer.set(torch.arange(9.0), torch.full((9,), 4.0))
        save_weights(policy, tmp_path / "weights.safetensors", ModelCard("actor"))
        again = read_policy(tmp_path / "weights.safetensors")
        x = torch.randn(7, 9)
        torch.testing.assert_close(again(x), policy.network(x))

    def test_code_in_a_policy_is_not_run(self, tmp_path: Path) -> None:
        learner().save(tmp_path / "policy.zip")
        content = io.BytesIO()
        torch.save({"actor.mu.weight": Bomb(tmp_path / "made")}, content)
        bad = rewritten(tmp_path / "policy.zip", tmp_path / "bad.zip", policy_pth=content.getvalue())
        with pytest.raises(PolicyFileError, match=r"bad\.zip: policy\.pth: refused, and nothing of it was run"):
            read_policy(bad)
        # the pickles in the settings are not opened at all
        with zipfile.ZipFile(tmp_path / "policy.zip") as archive:
            data = json.loads(archive.read("data"))
        import base64

        data["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(Bomb(tmp_path / "made"))).decode()
        read_policy(rewritten(tmp_path / "policy.zip", tmp_path / "odd.zip", data=json.dumps(data).encode()))
        assert not (tmp_path / "made").exists()

    def test_code_in_statistics_is_not_run(self, tmp_path: Path) -> None:
        (tmp_path / "stats.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "made")))
        with pytest.raises(StatisticsError, match=r"stats\.pkl: holds no statistics"):
            read_statistics(tmp_path / "stats.pkl")
        assert not (tmp_path / "made").exists()

    def test_files_that_are_no_policy(self, tmp_path: Path) -> None:
        (tmp_path / "text.zip").write_text("hello")
        with pytest.raises(PolicyFileError, match=r"text\.zip: not a policy"):
            read_policy(tmp_path / "text.zip")
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            archive.writestr("a.png", b"")
        with pytest.raises(PolicyFileError, match=r"it holds a\.png"):
            read_policy(tmp_path / "photos.zip")
        save_weights(nn.Conv2d(1, 1, 1), tmp_path / "conv.safetensors", ModelCard("no actor"))
        with pytest.raises(PolicyFileError, match="holds no actor"):
            read_policy(tmp_path / "conv.safetensors")
        with pytest.raises(FileNotFoundError, match=r"none\.zip does not exist"):
            read_policy(tmp_path / "none.zip")

    def test_policies_that_do_not_convert(self, tmp_path: Path) -> None:
        PPO("MlpPolicy", ENV, device="cpu").save(tmp_path / "ppo.zip")
        with pytest.raises(PolicyFileError, match="has no actor of SAC or TD3"):
            read_policy(tmp_path / "ppo.zip")
        tanh = SAC("MlpPolicy", ENV, policy_kwargs=dict(net_arch=[8], activation_fn=nn.Tanh), device="cpu")
        tanh.save(tmp_path / "tanh.zip")
        with pytest.raises(PolicyFileError, match="its activation is Tanh"):
            read_policy(tmp_path / "tanh.zip")
        learner(use_sde=True).save(tmp_path / "sde.zip")
        with pytest.raises(PolicyFileError, match="use_sde"):
            read_policy(tmp_path / "sde.zip")

    def test_a_policy_of_another_environment(self, tmp_path: Path) -> None:
        learner().save(tmp_path / "policy.zip")
        with pytest.raises(PolicyFileError, match="maps 9 observations to 1 actions, but Hopper-v5 gives 11"):
            Policy("Hopper-v5", policy=str(tmp_path / "policy.zip"))


class TestEpisodes:
    def test_same_seeds_same_returns(self) -> None:
        torch.manual_seed(0)
        policy = Policy(ENV)
        first = policy.play([3, 4, 5])
        policy.play([6, 7, 8])
        for again in (policy.play([3, 4, 5]), self.copied(policy, "async").play([3, 4, 5])):
            np.testing.assert_array_equal(first[0], again[0])
            np.testing.assert_array_equal(first[1], again[1])
        assert len(set(first[0])) == 3

    @staticmethod
    def copied(policy: Policy, vectorised: str) -> Policy:
        other = Policy(ENV, vectorised=vectorised)
        other.load_state_dict(policy.state_dict())
        return other

    def test_a_return_is_one_episodes(self) -> None:
        """... though the environments go on while another's episode lasts."""
        torch.manual_seed(0)
        policy = Policy(ENV)
        returns, steps = policy.play([3, 4, 5])
        env = make_environment(ENV)
        for seed, expected, length in zip([3, 4, 5], returns, steps, strict=True):
            observation, _ = env.reset(seed=seed)
            total, count, over = 0.0, 0, False
            while not over:
                observation, reward, ended, truncated, _ = env.step(policy.act(observation[None])[0])
                total, count, over = total + reward, count + 1, ended or truncated
            assert count == length
            assert total == pytest.approx(expected, rel=1e-4)

    def test_an_episode_can_be_broken_off(self) -> None:
        torch.manual_seed(0)
        policy = Policy(ENV)
        samples = policy(**{"inputs": [3, 4], "data_samples": [2, 2]})
        assert [s.steps for s in samples] == [2, 2]
        assert Episodes(2, 3, steps=2)[1] == {"inputs": 4, "data_samples": 2}
        assert make_environment(ENV, steps=7).spec.max_episode_steps == 7

    def test_actions_reach_the_bounds_of_the_environment(self) -> None:
        policy = Policy("InvertedDoublePendulum-v5")
        policy.low, policy.high = torch.tensor([-3.0]), torch.tensor([1.0])
        with torch.no_grad():
            policy.network.layers[-1].weight.zero_()
            for bias, action in ((50.0, 1.0), (-50.0, -3.0), (0.0, -1.0)):
                policy.network.layers[-1].bias.fill_(bias)
                assert float(policy.act(np.zeros((1, 9)))[0, 0]) == pytest.approx(action)

    def test_environments_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="gymnasium has no environment 'Hoper-v5'"):
            Policy("Hoper-v5")
        with pytest.raises(ValueError, match="CartPole-v1: observations and actions must be vectors"):
            Policy("CartPole-v1")
        with pytest.raises(ValueError, match="from 1"):
            Episodes(episodes=0)

    @pytest.mark.parametrize("name", ["Hopper", "Walker2d", "HalfCheetah", "InvertedDoublePendulum"])
    @pytest.mark.parametrize("version", ["v4", "v5"])
    def test_both_versions_are_played(self, name: str, version: str) -> None:
        policy = Policy(f"{name}-{version}", hidden=(4,))
        observations = np.zeros((2, policy.network.sizes[0]))
        assert policy.act(observations).shape == (2, policy.network.sizes[-1])


class TestMembrane:
    def network(self, method: Any) -> tuple[Any, torch.Tensor]:
        torch.manual_seed(0)
        actor, x = Actor([4, 16, 16, 2]), torch.randn(64, 4)
        return snnconv.convert(actor, method, calibration=x, progress=False), x[:5]

    @pytest.mark.parametrize("kind", [methods.IF, methods.SignedIF])
    def test_calls_that_continue_are_one_long_run(self, kind: Any) -> None:
        snn, x = self.network(kind(timesteps=4, thresholds="max", correction="none"))
        long, _ = self.network(kind(timesteps=16, thresholds="max", correction="none"))
        continued = Continued(snn)
        pieces = torch.stack([continued(x) for _ in range(4)])
        torch.testing.assert_close(pieces.mean(0), long(x))
        assert not torch.equal(pieces[0], pieces[1])

    def test_reset_begins_afresh(self) -> None:
        snn, x = self.network(methods.IF(timesteps=4))
        continued = Continued(snn)
        first = continued(x)
        continued(x)
        continued.reset()
        torch.testing.assert_close(continued(x), first, rtol=0, atol=0)
        torch.testing.assert_close(first, snn(x))

    def test_methods_without_a_membrane_are_refused(self) -> None:
        with pytest.raises(ConversionError, match="bits of one number"):
            Continued(self.network(methods.ShiftedThreshold(timesteps=4))[0])
        with pytest.raises(ConversionError, match="mask belongs to one input"):
            Continued(self.network(methods.SRP(timesteps=4, pre_timesteps=4))[0])

    def test_an_actor_runs_anew_for_every_readout(self) -> None:
        (part,) = find_parts(Policy(ENV))
        assert not part.once
        assert part.samples == 1024


class TestRuns:
    @pytest.fixture(autouse=True)
    def _folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)

    def test_an_interrupted_training_goes_on(self, tmp_path: Path) -> None:
        def trained(steps: int, **more: Any) -> dict:
            config = load_config(PENDULUM, {**SMALL, "train_cfg.steps": steps, **more})
            config.work_dir, config.launcher = str(tmp_path), "none"
            train(config)
            return torch.load(tmp_path / "training.pt", weights_only=True)

        first = trained(200)
        assert first["steps"] == 200
        assert len(first["buffer"]["rewards"]) == 200
        second = trained(400)
        assert second["steps"] == 400
        assert second["best"]["return"] >= first["best"]["return"]
        for name, values in first["buffer"].items():
            torch.testing.assert_close(second["buffer"][name][:200], values, rtol=0, atol=0)
        assert second["updates"] == first["updates"] + 200
        assert second["seconds"] > first["seconds"] > 0
        with pytest.raises(CheckpointMismatch, match=r"training\.pt is the state of a training with other settings"):
            trained(500, **{"optim_wrapper.optimizer.lr": 0.5})

    def test_normalised_training_keeps_its_statistics(self, tmp_path: Path) -> None:
        config = load_config(PENDULUM.with_name("sac_normalised.py"), SMALL)
        config.work_dir, config.launcher = str(tmp_path), "none"
        actor = read_policy(train(config))
        layer = actor.normalise
        assert isinstance(layer, Normalise)
        assert float(layer.mean.abs().max()) > 0
        assert float((layer.scale - 1).abs().max()) > 0.1

    def test_a_run_writes_the_returns(self, tmp_path: Path) -> None:
        options = {**SMALL, "bench.methods": [
            dict(label="signed IF", type="SignedIF", timesteps=[4, 8]),
            dict(label="IF kept", type="IF", timesteps=[4], keep_membrane=True),
            dict(label="shifted kept", type="ShiftedThreshold", timesteps=[4], keep_membrane=True),
            dict(label="max", type="IF", timesteps=[2, 8], thresholds="max", correction="none"),
        ]}  # fmt: skip

        def run(**more: Any) -> dict[str, Any]:
            files = run_config(PENDULUM, out=tmp_path / "out", work_dir=tmp_path / "work", options={**options, **more})
            return {record["label"]: record for record in map(results.read, files)}

        first, again = run(), run()
        assert set(first) == {"signed IF", "IF kept", "max"}  # bits of one number keep no membrane
        for label, record in first.items():
            assert record["task"] == "control"
            assert record["dataset"] == ENV
            assert record["samples"] == 3
            assert record["training"]["iterations"] == 300
            assert {"return", "return_std", "return_min", "return_max", "steps"} == set(record["ann"]["metrics"])
            assert [p["metrics"] for p in record["points"]] == [p["metrics"] for p in again[label]["points"]]
            assert all(p["sops"] > 0 for p in record["points"])
            assert any("membranes are kept" in n for n in record.get("notes", [])) == (label == "IF kept")
        assert {"gymnasium", "mujoco", "stable-baselines3"} <= set(first["max"]["versions"])
        with pytest.raises(BenchError, match=rf"was trained on {ENV}, not InvertedDoublePendulum-v4"):
            run(**{"model.env": "InvertedDoublePendulum-v4"})

    def test_a_policy_file_takes_the_actors_place(self, tmp_path: Path) -> None:
        learner().save(tmp_path / "policy.zip")
        rows = [dict(label="shifted", type="ShiftedThreshold", timesteps=[8])]
        options = {**SMALL, "bench.methods": rows, "model.policy": str(tmp_path / "policy.zip")}
        (path,) = run_config(PENDULUM, out=tmp_path / "out", work_dir=tmp_path / "work", options=options)
        record = results.read(path)
        assert record["training"] is None
        assert record["points"][0]["metrics"]["return"] == pytest.approx(record["ann"]["metrics"]["return"], rel=0.1)
        assert not (tmp_path / "work" / "weights.safetensors").exists()

    @pytest.mark.slow
    def test_two_ranks_play_the_episodes_of_one(self, tmp_path: Path) -> None:
        learner().save(tmp_path / "policy.zip")
        rows = [dict(label="shifted", type="ShiftedThreshold", timesteps=[4], thresholds="max", correction="none")]
        more = {"test_dataloader.dataset.episodes": 4, "model.policy": str(tmp_path / "policy.zip")}
        options = {**SMALL, "bench.methods": rows, **more}
        (path,) = run_config(PENDULUM, out=tmp_path / "one", work_dir=tmp_path / "work", options=options)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        launch += ["-m", "snnconv.cli.app", "bench", str(PENDULUM), "--launcher", "pytorch"]
        launch += ["--work-dir", str(tmp_path / "work2"), "--out", str(tmp_path / "two")]
        for key, value in options.items():
            launch += ["--cfg-options", f"{key}={value!r}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(launch, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        one, (two,) = results.read(path), results.read_all(tmp_path / "two").values()
        assert two["machine"]["ranks"] == 2
        assert two["ann"]["metrics"] == pytest.approx(one["ann"]["metrics"], rel=1e-4)
        assert two["points"][0]["metrics"] == pytest.approx(one["points"][0]["metrics"], rel=1e-4)


class TestVideos:
    def test_frames_become_a_file_a_network(self, tmp_path: Path) -> None:
        class Player:
            def record(self, wanted: Any, watch: Any) -> None:
                self.wanted, self.watch = wanted, watch

        player = Player()
        videos = EpisodeVideos(tmp_path / "videos", [5], player)
        assert [player.wanted(seed) for seed in (5, 6, 5)] == [True, False, True]
        for name in ("ANN", "IF T=2,4", "IF T=2,4"):
            for k in range(6):
                player.watch(5, 60, np.full((16, 16, 3), 40 * k, np.uint8))
            videos.add(name, [type("Sample", (), {"seed": 5})()], {})
        names = [path.name for path in videos.finish()]
        assert names == ["ann-seed-5.mp4", "if-t-2-4-seed-5.mp4", "if-t-2-4-seed-5-2.mp4"]
        (clip,) = read_clips(tmp_path / "videos" / names[0], frames=3)  # every second frame
        np.testing.assert_allclose(clip.float().mean((1, 2, 3)).numpy(), [0, 80, 160], atol=6)
        assert len(list((tmp_path / "videos").iterdir())) == 3

    def test_an_episode_is_drawn(self, tmp_path: Path) -> None:
        os.environ.setdefault("MUJOCO_GL", "egl")
        try:
            make_environment(ENV, picture=True).reset(seed=0)
            env = make_environment(ENV, picture=True)
            env.reset(seed=0)
            env.render()
        except Exception as error:  # whatever the graphics libraries lack here
            pytest.skip(f"no headless rendering: {type(error).__name__}: {error}")
        policy = Policy(ENV)
        videos = EpisodeVideos(tmp_path, [3], policy)
        samples = policy([3, 4], mode="predict")
        videos.add("ANN", samples, {})
        (path,) = videos.finish()
        (clip,) = read_clips(path, frames=2)
        assert clip.shape == (2, 240, 240, 3)
        assert float(clip.float().std()) > 5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_config_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(path)
    assert config.bench.dataset == config.model.env
    assert config.model.env.rpartition("-")[0].lower() == path.parent.name.replace("_", "")
    assert config.test_dataloader.dataset.episodes >= 20
    for row in config.bench.methods:
        settings = {k: v for k, v in row.items() if k not in ("label", "type", "timesteps", "keep_membrane")}
        for steps in row["timesteps"]:
            method = getattr(methods, row["type"])(timesteps=steps, **settings)
            assert method.coding == "rate" or not row.get("keep_membrane")


def test_the_return_is_a_mean_with_its_spread() -> None:
    metric = AverageReturn()
    for value in (1.0, 2.0, 6.0):
        metric.process({}, [{"episode_return": value, "steps": 3}])
    found = metric.compute_metrics(metric.results)
    assert found["return"] == 3.0
    assert found["return_std"] == pytest.approx(np.std([1.0, 2.0, 6.0]))
    assert (found["return_min"], found["return_max"]) == (1.0, 6.0)
