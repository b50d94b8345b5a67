"""Answers beside a result: kept with their digest, read back, joined with those of other points, scored again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnbench import results
from snnbench.results import answers as module
from snnbench.results.answers import Answers, word_of
from snnbench.results.kinds import KINDS, bootstrap_error, resamples
from snnconv.cli.app import app
from tests.command_line import Runner
from tests.snnbench.test_leaderboard import record

pytest.importorskip("jsonschema")
N = 1000
runner = Runner()


def outcomes(seed: int, share: float = 0.9) -> dict[str, Any]:
    return {"right": (np.random.default_rng(seed).random(N) < share).astype(np.uint8)}


def answers(content: dict[str, Any]) -> Answers:
    networks = {word_of(point): outcomes(i) for i, point in enumerate(content["points"])}
    return Answers("right", {"label": np.zeros(N, np.int32)}, {"ann": outcomes(99), **networks})


def small(points: dict[int, float], **changes: Any) -> dict[str, Any]:
    return record(points=points, samples=N, **changes)


class TestFiles:
    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        content = small({4: 80.0, 8: 88.0})
        results.write(tmp_path / "a.json", content, answers(content))
        stored = results.read(tmp_path / "a.json")
        found = results.read_answers(tmp_path / "a.json", stored)
        assert found is not None
        assert set(found.networks) == {"ann", "0+4 1-4", "0+8 1-8"}
        assert (found.networks["0+8 1-8"]["right"] == outcomes(1)["right"]).all()

    def test_a_result_without_answers_has_none(self, tmp_path: Path) -> None:
        results.write(tmp_path / "a.json", small({4: 80.0}))
        assert results.read_answers(tmp_path / "a.json", results.read(tmp_path / "a.json")) is None

    def test_equal_answers_give_equal_bytes(self) -> None:
        content = small({4: 80.0})
        assert module.packed(answers(content), "a") == module.packed(answers(content), "a")

    def test_points_of_another_run_keep_their_answers_and_the_old_file_goes(self, tmp_path: Path) -> None:
        first, second = small({4: 80.0}), small({8: 88.0})
        results.write(tmp_path / "a.json", first, answers(first))
        results.write(tmp_path / "a.json", second, answers(second))
        found = results.read_answers(tmp_path / "a.json", results.read(tmp_path / "a.json"))
        assert found is not None
        assert set(found.networks) == {"ann", "0+4 1-4", "0+8 1-8"}
        assert len(list(tmp_path.glob("*.npz"))) == 1

    def test_another_config_forgets_the_answers_before(self, tmp_path: Path) -> None:
        first = small({4: 80.0})
        results.write(tmp_path / "a.json", first, answers(first))
        results.write(tmp_path / "a.json", small({4: 81.0}, config={"other": 1}))
        assert "answers" not in results.read(tmp_path / "a.json")
        assert not list(tmp_path.glob("*.npz"))

    def test_large_ones_are_not_kept_and_a_note_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("snnbench.results.storing.LARGEST", 100)
        content = small({4: 80.0})
        results.write(tmp_path / "a.json", content, answers(content))
        stored = results.read(tmp_path / "a.json")
        assert "answers" not in stored
        assert any("are not kept" in note for note in stored["notes"])

    def test_answers_of_other_samples_are_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        content = small({4: 80.0})
        with pytest.raises(results.ResultError, match=r"ann: right is of shape \[1000\]"):
            results.write(tmp_path / "a.json", {**content, "samples": 10}, answers(content))
        assert not list(tmp_path.iterdir())


class TestPaired:
    def write(self, path: Path, right: Any, **changes: Any) -> Path:
        truth = {"label": np.full(N, changes.pop("truth", 0), np.int32)}
        content = small({4: 100 * float(right["right"].mean())}, **changes)
        kept = Answers("right", truth, {"ann": outcomes(99), "0+4 1-4": right})
        results.write(path, content, kept)
        return path

    def test_mcnemar_decides_where_inputs_are_right_or_wrong(self, tmp_path: Path) -> None:
        better = outcomes(1)
        worse = {"right": better["right"].copy()}
        worse["right"][np.flatnonzero(better["right"])[:12]] = 0
        a, b = self.write(tmp_path / "a.json", better), self.write(tmp_path / "b.json", worse)
        found = results.paired(a, b)
        assert (found.alone, found.samples) == ((12, 0), N)
        assert found.p_value == pytest.approx(2 / 2**12)
        assert found.difference == pytest.approx(1.2)
        assert "they differ at the 95 % level" in str(found)
        assert "cannot be told apart" in str(results.paired(a, a))

    def test_other_metrics_are_compared_by_resampling_pairs(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        union = rng.integers(50, 100, (N, 3))
        better = {"intersect": (0.6 * union).astype(int), "union": union}
        worse = {"intersect": better["intersect"] - 2, "union": union}
        for name, arrays in (("a", better), ("b", worse)):
            value = float(KINDS["areas"].score(arrays, {}, np.ones((1, N)))[0])
            content = small({4: value}, metric="mIoU")
            results.write(tmp_path / f"{name}.json", content, Answers("areas", {}, {"0+4 1-4": arrays}))
        found = results.paired(tmp_path / "a.json", tmp_path / "b.json")
        assert found.interval is not None
        assert 0 < found.interval[0] < found.difference < found.interval[1]
        assert found.p_value < 0.05
        same = results.paired(tmp_path / "a.json", tmp_path / "a.json")
        assert (same.difference, same.p_value) == (0.0, 1.0)

    def test_other_inputs_are_refused(self, tmp_path: Path) -> None:
        a = self.write(tmp_path / "a.json", outcomes(1))
        for change in ({"truth": 1}, {"dataset": "digits"}, {"split": "val"}):
            b = self.write(tmp_path / "b.json", outcomes(2), **change)
            with pytest.raises(results.ResultError, match="not measured on the same inputs"):
                results.paired(a, b)

    def test_a_result_without_answers_says_how_to_get_them(self, tmp_path: Path) -> None:
        results.write(tmp_path / "a.json", small({4: 80.0}))
        with pytest.raises(results.ResultError, match=r"a\.json: holds no answers"):
            results.paired(tmp_path / "a.json", tmp_path / "a.json")

    def test_the_command_compares_two_files(self, tmp_path: Path) -> None:
        a, b = (self.write(tmp_path / f"{name}.json", outcomes(i), label=name) for i, name in ((1, "a"), (1, "b")))
        told = runner.invoke(app, ["leaderboard", "--compare", str(a), "--compare", str(b), "--at", "4"])
        assert told.exit_code == 0
        assert "McNemar's exact test: p = 1" in told.output
        assert runner.invoke(app, ["leaderboard", "--compare", str(a)]).exit_code == 2
        assert "holds no answers of a point within 2 steps" in runner.invoke(
            app, ["leaderboard", "--compare", str(a), "--compare", str(b), "--at", "2"]
        ).output.replace("\n", " ")


class TestStrangers:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        content = small({4: 80.0})
        results.write(tmp_path / "a.json", content, answers(content))
        return tmp_path / "a.json"

    def test_a_file_that_is_not_there(self, path: Path) -> None:
        next(path.parent.glob("*.npz")).unlink()
        with pytest.raises(results.ResultError, match="are not beside it"):
            results.read_answers(path, results.read(path))

    def test_another_content_than_the_result_names(self, path: Path) -> None:
        place = next(path.parent.glob("*.npz"))
        place.write_bytes(place.read_bytes() + b"x")
        with pytest.raises(results.ResultError, match="its SHA-256 differs"):
            results.read_answers(path, results.read(path))

    def test_a_name_outside_the_folder_is_no_name(self, path: Path) -> None:
        content = json.loads(path.read_text())
        content["answers"]["file"] = "../a.00000000.npz"
        path.write_text(json.dumps(content))
        with pytest.raises(results.ResultError, match=r"answers\.file"):
            results.read(path)

    @pytest.mark.parametrize("content", [b"no zip", b"PK\x03\x04 damaged"])
    def test_what_is_no_archive_is_said_in_one_sentence(self, path: Path, content: bytes) -> None:
        found = results.read(path)
        (path.parent / found["answers"]["file"]).write_bytes(content)
        found["answers"]["sha256"] = hashlib.sha256(content).hexdigest()
        with pytest.raises(results.ResultError, match="not a readable"):
            results.read_answers(path, found)


class TestScores:
    def test_samples_drawn_twice_count_twice(self) -> None:
        areas = {"intersect": np.array([[2, 0], [1, 3]]), "union": np.array([[4, 0], [2, 4]])}
        score = KINDS["areas"].score(areas, {}, np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]]))
        assert score == pytest.approx([100 * (3 / 6 + 3 / 4) / 2, 100 * 2 / 4, 100 * (1 / 2 + 3 / 4) / 2])

    def test_average_precision_by_hand(self) -> None:
        # one class, three objects on two pictures; right, wrong, right: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3
        arrays = {
            "score": np.array([0.9, 0.8, 0.7]), "image": np.array([0, 1, 1]), "class": np.zeros(3, int),
            "hit": np.array([[1], [0], [1]]),
        }  # fmt: skip
        truth = {"positives": np.array([[1], [2]])}
        area = KINDS["detections, area"].score(arrays, truth, np.ones((1, 2)))
        assert area == pytest.approx([100 * (1 / 3 + 1 / 3 * 2 / 3)])
        eleven = KINDS["detections, 11 recalls"].score(arrays, truth, np.ones((1, 2)))
        assert eleven == pytest.approx([100 * (4 * 1 + 3 * 2 / 3) / 11])  # recalls 0 … 0.3, then 0.4 … 0.6

    def test_the_bootstrap_of_an_accuracy_is_its_binomial_error(self) -> None:
        arrays = outcomes(0)
        share = float(arrays["right"].mean())
        expected = 100 * np.sqrt(share * (1 - share) / N)
        assert bootstrap_error("right", arrays, {}, N) == pytest.approx(expected, rel=0.12)

    def test_every_resample_draws_as_many_samples(self) -> None:
        drawn = resamples(50)
        assert (drawn.sum(1) == 50).all()
        assert (resamples(50) == drawn).all()
