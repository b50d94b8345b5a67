"""The leaderboard is what the result files give: statistics, ranks, fronts, pages, and the check of committed ones."""

from __future__ import annotations

import copy
import cProfile
import json
import math
import pstats
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from snnbench import leaderboard, results
from snnbench.leaderboard import Board, Entry, differ, estimate, rank_range
from snnbench.leaderboard.budgets import answers
from snnbench.leaderboard.page import page_data
from snnconv.cli.app import app
from tests.command_line import Runner

pytest.importorskip("jinja2")
pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
runner = Runner()


def record(label: str = "signed IF", points: dict[int, float] | None = None, **changes: Any) -> dict[str, Any]:
    """A valid result: T → metric."""
    metric = changes.get("metric", "top1")
    seed = changes.get("seed", 0)
    config = {"label": label, "seed": seed, **changes.pop("config", {})}
    measured = [
        results.point(
            t, {metric: value, **changes.get("extra", {})}, {"convert": 2.0, "evaluate": 3.0 * t}, pipelined_latency=t,
            spikes=10.0 * t, spikes_per_neuron=0.1 * t, sops=1e6 * t, macs=1e4, energy_joule=1e-6 * t,
            energy_ratio=0.05 * t, energies={"45nm": 1e-6 * t, "int8": 1e-8 * t}, memory_mib=100.0,
        )
        for t, value in (points or {4: 80.0, 8: 88.0}).items()
    ]  # fmt: skip
    extra = changes.pop("extra", {})
    return {
        "schema": results.SCHEMA, "task": "classification", "dataset": "cifar10", "split": "test", "samples": 10_000,
        "architecture": "resnet20", "label": label, "method": {"name": "SignedIF", "fields": {"thresholds": "mse"}},
        "metric": metric, "higher_is_better": True,
        "ann": {
            "metrics": {metric: 90.0, **extra}, "seconds": 6.0, "macs": 4e7, "energy_joule": 2e-5,
            "energies": {"45nm": 2e-5},
        },
        "points": measured, "sites": {"spiking": 19, "analog": []}, "training": None, "config": config,
        "config_hash": results.config_hash(config), "weights": "0123456789abcdef", "seed": seed,
        "versions": {"python": "3.11"},
        "machine": {"processor": "x", "threads": 1, "ranks": 1, "system": "Linux", "accelerator": None},
        "commit": "0123456789ab", "command": "snnconv bench config.py", **changes,
    }  # fmt: skip


def folder(path: Path, records: dict[str, dict[str, Any]], published: dict[str, Any] | None = None) -> Path:
    for name, content in records.items():
        results.write(path / "results" / f"{name}.json", content)
    (path / "results").mkdir(exist_ok=True, parents=True)
    if published is not None:
        (path / "published").mkdir()
        (path / "published" / "paper.json").write_text(json.dumps(published))
    return path


def boards(path: Path, records: dict[str, dict[str, Any]], published: dict[str, Any] | None = None) -> list[Board]:
    folder(path, records, published)
    return leaderboard.load(path / "results", path / "published")


def entries(path: Path, *records: dict[str, Any]) -> list[Entry]:
    found = boards(path, {f"r{i}": content for i, content in enumerate(records)})
    return [entry for board in found for entry in board.entries]


PUBLISHED = {
    "schema": "snnconv-published/1",
    "paper": "arXiv:2302.02091",
    "source": "abstract",
    "results": [
        {
            "method": "SRP",
            "task": "classification",
            "dataset": "CIFAR-10",
            "split": None,
            "architecture": "VGG-16",
            "pre_timesteps": 4,
            "timesteps": 4,
            "metric": "top1",
            "value": 95.4,
            "ann_value": 95.5,
        }
    ],
}


class TestStatistics:
    def test_sampling_error_of_an_accuracy_is_binomial(self) -> None:
        found = estimate([90.0], 10_000, "top1").sampling
        assert found == pytest.approx(100 * math.sqrt(0.9 * 0.1 / 10_000))

    def test_no_sampling_error_is_made_up_for_other_metrics(self) -> None:
        assert estimate([48.6], 233, "mIoU").sampling is None
        assert estimate([48.6], 233, "mIoU", [{"mIoU": 48.6, "mAcc_std": 1.0}]).sampling is None

    def test_a_standard_deviation_in_the_file_gives_the_error_of_a_mean(self) -> None:
        found = estimate([9300.0], 25, "return", [{"return": 9300.0, "return_std": 50.0}])
        assert found.sampling == pytest.approx(10.0)

    def test_seeds_give_mean_and_sample_standard_deviation(self) -> None:
        found = estimate([88.0, 89.0, 90.0], 1000, "top1")
        assert (found.value, found.std, found.seeds) == (89.0, pytest.approx(1.0), 3)

    @pytest.mark.parametrize(
        ("gap", "samples", "expected"), [(0.2, 10_000, False), (2.0, 10_000, True), (2.0, 500, False)]
    )
    def test_accuracies(self, gap: float, samples: int, expected: bool) -> None:
        assert differ(estimate([88.3], samples, "top1"), estimate([88.3 - gap], samples, "top1")) is expected

    def test_equal_answers_at_the_border_are_no_certainty(self) -> None:
        # the plain binomial error of 100 % is zero
        assert differ(estimate([100.0], 40, "top1"), estimate([97.5], 40, "top1")) is False

    def test_answers_to_the_same_inputs_tell_apart_what_independent_samples_do_not(self) -> None:
        right = [True] * 880 + [False] * 120
        better = [True] * 890 + [False] * 110  # right wherever the other is, and on ten more
        a, b = (estimate([s], 1000, "top1", right=np.array(r)) for s, r in ((88.0, right), (89.0, better)))
        assert differ(estimate([88.0], 1000, "top1"), estimate([89.0], 1000, "top1")) is False
        assert differ(a, b) is True

    def test_an_error_in_the_file_is_that_of_a_metric_that_has_none(self) -> None:
        assert estimate([48.0], 233, "mIoU", errors=[1.5]).sampling == pytest.approx(1.5)
        assert estimate([48.0, 50.0], 233, "mIoU", errors=[1.5, None]).sampling is None
        assert differ(estimate([48.0], 9, "mIoU", errors=[1.0]), estimate([52.0], 9, "mIoU", errors=[1.0])) is True

    def test_seeds_that_scatter_make_a_gap_uncertain(self) -> None:
        close, wide = [89.9, 90.0, 90.1], [84.0, 90.0, 96.0]
        other = estimate([88.0, 88.0, 88.0], 10_000, "top1")
        assert differ(estimate(close, 10_000, "top1"), other) is True
        assert differ(estimate(wide, 10_000, "top1"), other) is False

    def test_welch_where_only_seeds_tell(self) -> None:
        a, b = estimate([50.0, 50.2, 50.1], 233, "mIoU"), estimate([48.0, 48.1, 48.2], 233, "mIoU")
        assert differ(a, b) is True
        assert differ(estimate([50.0, 48.0], 233, "mIoU"), estimate([48.5, 49.0], 233, "mIoU")) is False
        assert differ(a, estimate([48.0], 233, "mIoU")) is None

    def test_a_rank_is_a_range_where_entries_cannot_be_told_apart(self) -> None:
        def of(value: float) -> leaderboard.Estimate:
            return estimate([value], 10_000, "top1")

        assert rank_range(of(88.3), [of(88.1), of(80.0)]) == (1, 2)
        assert rank_range(of(80.0), [of(88.1), of(88.3)]) == (3, 3)
        assert rank_range(of(80.0), [of(88.1), of(88.3)], higher_is_better=False) == (1, 1)


class TestEntries:
    def test_files_that_differ_in_the_seed_are_one_entry(self, tmp_path: Path) -> None:
        found = entries(
            tmp_path,
            record(points={4: 80.0}),
            record(points={4: 82.0}, seed=1, weights="f" * 16),
            record("IF", points={4: 70.0}),
        )
        assert [(e.label, e.seeds) for e in found] == [("signed IF", [0, 1]), ("IF", [0])]
        assert found[0].rows[0].estimate.value == 81.0
        assert found[0].rows[0].estimate.std == pytest.approx(math.sqrt(2))

    def test_the_smallest_seed_stands_first_and_names_the_entry(self, tmp_path: Path) -> None:
        (board,) = boards(tmp_path, {"a/seed-1/m": record(seed=1), "a/m": record(), "a/b": record(seed=12)})
        (entry,) = board.entries
        assert (entry.seeds, entry.files) == ([0, 1, 12], ["a/m.json", "a/seed-1/m.json", "a/b.json"])

    def test_two_files_of_one_seed_are_two_entries(self, tmp_path: Path) -> None:
        found = entries(tmp_path, record(), record(weights="f" * 16))
        assert [len(e.files) for e in found] == [1, 1]
        assert len({e.name for e in found}) == 2

    def test_names_are_unique(self, tmp_path: Path) -> None:
        (board,) = boards(tmp_path, {"a/b-c": record("x"), "a-b/c": record("y")})
        assert len({e.name for e in board.entries}) == 2

    def test_a_figure_that_a_seed_lacks_stays_empty(self, tmp_path: Path) -> None:
        lacking = record(seed=1, notes=["not counted"])
        lacking["points"][0]["sops"] = None
        rows = entries(tmp_path, record(), lacking)[0].rows
        assert rows[0].sops is None
        assert rows[1].sops == 8e6

    def test_of_several_windows_the_widest_counts(self, tmp_path: Path) -> None:
        content = record(points={8: 88.0})
        late = copy.deepcopy(content["points"][0]) | {"window": [5, 8], "metrics": {"top1": 95.0}}
        content["points"].append(late)
        (entry,) = entries(tmp_path, content)
        assert [(r.estimate.value, r.window) for r in entry.rows] == [(88.0, (1, 8))]
        assert entry.hidden == 1

    def test_wall_time_is_a_ratio_only_where_it_was_measured(self, tmp_path: Path) -> None:
        shared = record("shared")
        for point in shared["points"]:
            point["seconds"]["evaluate"] = 12.0
        moved = record("moved")
        moved["points"][0]["run"] = {"machine": {**moved["machine"], "processor": "y"}}
        own, one_run, other = entries(tmp_path, record(), shared, moved)
        assert [r.wall_ratio for r in own.rows] == [2.0, 4.0]
        assert [r.wall_ratio for r in one_run.rows] == [None, 2.0]
        assert [r.wall_ratio for r in other.rows] == [None, 4.0]

    def test_epochs_after_the_pretrained_network(self, tmp_path: Path) -> None:
        trained = {"name": "IF", "fields": {"thresholds": "trained"}}
        found = entries(
            tmp_path,
            record("calibrated", training={"epochs": 30.0, "seconds": 1.0}),
            record("fine-tuned", config={"settings": {"finetune": {"images": 500, "epochs": 2}}}),
            record("trained", method=trained, training={"epochs": 10.0, "seconds": 1.0}),
            record("unknown", method=trained),
        )
        assert {e.label: e.epochs for e in found} == {"calibrated": 0, "fine-tuned": 2, "trained": 10, "unknown": None}


class TestBoards:
    def test_ranks_compare_what_is_reached_within_the_same_latency(self, tmp_path: Path) -> None:
        found = entries(
            tmp_path, record("fast", {4: 85.0}), record("slow", {4: 70.0, 32: 89.0}), record("late", {64: 89.5})
        )
        rows = {(e.label, r.latency): r for e in found for r in e.rows}
        assert (rows["fast", 4].rank, rows["fast", 4].rivals) == ((1, 1), 2)
        assert rows["slow", 4].rank == (2, 2)
        assert (rows["slow", 32].rank, rows["slow", 32].rivals) == ((1, 1), 2)
        assert (rows["late", 64].rank, rows["late", 64].rivals) == ((1, 2), 3)

    def test_a_rank_without_errors_is_marked(self, tmp_path: Path) -> None:
        found = entries(
            tmp_path,
            record("a", {4: 48.0}, metric="mIoU", task="segmentation"),
            record("b", {4: 47.9}, metric="mIoU", task="segmentation"),
        )
        assert [(r.rank, r.certain) for e in found for r in e.rows] == [((1, 1), False), ((2, 2), False)]

    def test_fronts_are_of_latency_and_of_energy(self, tmp_path: Path) -> None:
        cheap = record("cheap", {16: 85.0})
        cheap["points"][0]["energy_ratio"] = 0.01
        found = entries(tmp_path, record("fast", {4: 80.0, 8: 88.0}), record("worse", {8: 79.0}), cheap)
        fronts = {(e.label, r.latency): r.front for e in found for r in e.rows}
        assert fronts == {
            ("fast", 4): {"latency"},
            ("fast", 8): {"latency", "energy"},
            ("worse", 8): set(),
            ("cheap", 16): {"energy"},
        }

    def test_other_numbers_of_inputs_are_not_compared(self, tmp_path: Path) -> None:
        (board,) = boards(tmp_path, {"a": record(), "b": record("IF", samples=1000)})
        assert [(n.samples, len(n.entries)) for n in board.networks] == [(10_000, 1), (1000, 1)]

    def test_a_published_number_without_measure_is_refused(self, tmp_path: Path) -> None:
        huge = copy.deepcopy(PUBLISHED)
        huge["results"][0]["value"] = 10**400
        folder(tmp_path, {}, huge)
        with pytest.raises(results.ResultError, match=r"paper\.json: .*results\[0\]\.value is beyond 1e\+30"):
            leaderboard.read_published(tmp_path / "published")

    def test_published_numbers_join_the_data_set_and_no_rank(self, tmp_path: Path) -> None:
        (board,) = boards(tmp_path, {"a": record()}, PUBLISHED)
        assert board.dataset == "CIFAR-10"  # the file says cifar10
        assert [p.value for p in board.published] == [95.4]
        assert [r.rivals for e in board.entries for r in e.rows] == [1, 1]

    def test_every_task_gets_its_board(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        found = boards(
            tmp_path / "x",
            {
                "a": record(
                    task="control", dataset="InvertedDoublePendulum-v5", metric="return", extra={"return_std": 5.0}
                ),
                "b": record(task="video", dataset="moving digits"),
            },
        )
        assert [(b.task, b.dataset) for b in found] == [
            ("video", "moving digits"), ("control", "InvertedDoublePendulum-v5"),
        ]  # fmt: skip
        assert all(math.isclose(r.estimate.sampling or 0, 0.05) for e in found[1].entries for r in e.rows)


class _Links(HTMLParser):
    """Everything in a page that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" or "src" in values:
            self.fetched.append(values.get("src") or values.get("href") or "")


class TestBudgets:
    def found(self, path: Path, *records: dict[str, Any]) -> Any:
        (board,) = boards(path, {f"r{i}": content for i, content in enumerate(records)})
        return board.networks[0]

    def test_the_best_within_each_budget_of_steps(self, tmp_path: Path) -> None:
        network = self.found(tmp_path, record("a", {4: 80.0, 32: 89.0}), record("b", {2: 70.0, 8: 85.0}))
        found = [(a.budget, a.entry.label, a.row.latency) for a in answers(network, True)]
        assert found == [(2, "b", 2), (4, "a", 4), (8, "b", 8), (16, "b", 8), (32, "a", 32)]

    def test_a_budget_that_no_row_meets_has_no_answer(self, tmp_path: Path) -> None:
        assert [a.budget for a in answers(self.found(tmp_path, record("a", {9: 80.0})), True)] == [16, 32]

    def test_energy_is_that_of_the_cost_model(self, tmp_path: Path) -> None:
        network = self.found(tmp_path, record("a", {2: 80.0, 4: 88.0}))
        assert [(a.budget, a.row.latency) for a in answers(network, True, "45nm")] == [(0.1, 2), (0.25, 4), (0.5, 4)]
        assert answers(network, True, "lemaire") == []
        assert answers(network, True, "int8") == []  # the ANN's is not in the file

    def test_what_cannot_be_told_apart_stands_beside_it(self, tmp_path: Path) -> None:
        network = self.found(tmp_path, record("a", {4: 88.0}), record("b", {4: 87.9}), record("c", {4: 60.0}))
        (first, *_) = answers(network, True)
        assert [e.label for e in (first.entry, *first.others)] == ["a", "b"]

    def test_of_equal_values_the_one_with_fewer_steps(self, tmp_path: Path) -> None:
        network = self.found(tmp_path, record("a", {4: 88.0, 8: 88.0}), record("b", {2: 88.0}))
        assert {(a.entry.label, a.row.latency) for a in answers(network, True)} == {("b", 2)}


class TestPages:
    def test_committed_pages_are_what_the_committed_files_give(self) -> None:
        assert leaderboard.check(BENCHMARKS) == []

    def test_every_committed_result_is_on_the_pages(self) -> None:
        found = leaderboard.load(BENCHMARKS / "results", BENCHMARKS / "published")
        shown = {file for board in found for entry in board.entries for file in entry.files}
        assert shown == {p.relative_to(BENCHMARKS / "results").as_posix() for p in BENCHMARKS.glob("results/**/*.json")}
        page, text = leaderboard.to_html(found), leaderboard.to_markdown(found)
        for file in shown:
            assert f'"{file}"' in page
            assert f"](results/{file})" in text

    def test_rendering_again_gives_the_same_bytes(self, tmp_path: Path) -> None:
        files = {f"d{i % 3}/{name}": record(name, dataset=f"data {i % 3}") for i, name in enumerate("zyxabc")}
        first, second = tmp_path / "first", tmp_path / "second"
        for path, order in ((first, files), (second, dict(reversed(files.items())))):
            path.mkdir()
            leaderboard.write(folder(path, order))
        for name in ("LEADERBOARD.md", "leaderboard.html"):
            assert (first / name).read_bytes() == (second / name).read_bytes()

    def test_the_page_fetches_nothing(self, tmp_path: Path) -> None:
        links = _Links()
        links.feed(leaderboard.to_html(boards(tmp_path, {"a": record()}, PUBLISHED)))
        assert links.fetched == ["data:,"]

    def test_text_from_files_is_no_markup(self, tmp_path: Path) -> None:
        nasty = "</script><script>alert(1)</script> a|b *c*"
        content = record(nasty, notes=[nasty], command=nasty, architecture=nasty)
        found = boards(tmp_path, {"a": content}, copy.deepcopy(PUBLISHED) | {"source": nasty})
        assert "<script>alert" not in leaderboard.to_html(found)
        text = leaderboard.to_markdown(found)
        assert "| [&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; a\\|b \\*c\\*](results/a.json) |" in text

    def test_published_numbers_are_marked(self, tmp_path: Path) -> None:
        found = boards(tmp_path, {"a": record()}, PUBLISHED)
        text = leaderboard.to_markdown(found)
        assert text.index("not measured here") < text.index("95.40")
        assert "[arXiv:2302.02091](https://arxiv.org/abs/2302.02091), abstract" in text
        (board,) = page_data(found)["boards"]
        assert [(p["paper"], p["v"], p["l"]) for p in board["published"]] == [("arXiv:2302.02091", 95.4, 8)]

    def test_costs_command_and_twin_are_in_the_page(self, tmp_path: Path) -> None:
        content = record(points={8: 88.0})
        content["points"][0]["twin"] = {
            "levels": 255, "metrics": {"top1": 88.0}, "metrics_int8": {"top1": 87.5}, "energies": None, "agreement": 1.0
        }  # fmt: skip
        (board,) = page_data(boards(tmp_path, {"a": content}))["boards"]
        (row,) = board["networks"][0]["rows"]
        assert row["q"] == {"45nm": 0.4}
        assert row["j"] == {"45nm": 8e-6, "int8": 8e-8}
        assert row["twin"] == [255, 88.0, 87.5, True, 1.0]  # nothing is lost
        assert (row["w"], row["c"], row["r"]) == (4.0, 2.0, "1 of 1")

    def test_an_equal_value_with_other_answers_is_not_lossless(self, tmp_path: Path) -> None:
        for name, agreement in (("unknown", {}), ("some differ", {"agreement": 0.99})):
            content = record(points={8: 88.0})
            scores = {"metrics": {"top1": 88.0}, "metrics_int8": {"top1": 87.5}}
            content["points"][0]["twin"] = {"levels": 8, "energies": None, **scores, **agreement}
            (entry,) = entries(tmp_path / name, content)
            assert not entry.rows[0].equals_twin

    def test_what_a_step_is_stands_in_the_text(self, tmp_path: Path) -> None:
        content = record(points={4: 88.0})
        content["points"][0] |= {"pipelined_latency": 76, "pipeline": [76, 4], "bits_per_step": 1.0}
        text = leaderboard.to_markdown(boards(tmp_path, {"a": content}))
        assert "88.00 (network 76; pipeline 76, then every 4; 1 bit a step)" in text

    def test_seeds_stand_with_their_mean_and_spread(self, tmp_path: Path) -> None:
        found = boards(tmp_path, {f"s{seed}": record(points={4: 80.0 + seed}, seed=seed) for seed in (0, 1, 2)})
        assert "| 81.00 ± 1.00 |" in leaderboard.to_markdown(found)

    def test_the_text_is_short_and_links_the_files_that_hold_the_commands(self, tmp_path: Path) -> None:
        text = leaderboard.to_markdown(boards(tmp_path, {"a": record(points={4: 80.0, 8: 88.0})}))
        assert "| [signed IF](results/a.json) | 80.00 | 88.00 |" in text
        assert "Best with T ≤ 4: signed IF, 80.00; T ≤ 8: signed IF, 88.00;" in text
        assert "snnconv bench" not in text

    def test_the_committed_pages_are_small(self) -> None:
        assert (BENCHMARKS / "leaderboard.html").stat().st_size < 600_000
        assert (BENCHMARKS / "LEADERBOARD.md").stat().st_size < 60_000

    @pytest.mark.parametrize(
        "text",
        [
            "x\n\n<script>alert(1)</script>\n\n# heading\n",
            "a | b\r\n| --- |",
            "``` \n~~~\n<b>",
            "](javascript:alert(1)) ![x](http://x.y/z)",
            "# heading", "- item", "1. item", "---", "=== ", "> quote", "    code", "~~~",
            "a\u2028# b\x0b# c\x85# d\x00 \u202e",
            "`a` ``b``",
        ],
    )  # fmt: skip
    def test_no_field_of_a_file_is_markup(self, tmp_path: Path, text: str) -> None:
        assert self.structure(tmp_path / "a", text) == self.structure(tmp_path / "b", "plain")

    @staticmethod
    def structure(path: Path, text: str) -> list[list[str]]:
        """What a Markdown parser makes of the page whose every text is ``text``: its blocks, and the marks inside."""
        changed = record(text, {8: 50.0}, metric=text, notes=[text], dataset=text, split=text, architecture=text)
        changed |= {"command": text, "method": {"name": text, "fields": {}}}
        numbers = {**PUBLISHED["results"][0], "dataset": text, "split": text, "architecture": text, "method": text}
        published = {**PUBLISHED, "source": text, "results": [{**numbers, "metric": text, "note": text}]}
        page = leaderboard.to_markdown(boards(path, {"a": changed}, published))
        tokens = MarkdownIt("commonmark").enable("table").parse(page)
        return [[token.type, *(child.type for child in token.children or ())] for token in tokens]

    def test_the_work_for_a_thousand_results_grows_with_their_number(self, tmp_path: Path) -> None:
        def calls(count: int) -> int:
            for i, content in enumerate(thousand()[:count]):
                path = tmp_path / "results" / f"{i}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(content))
            profile = cProfile.Profile()
            profile.runcall(leaderboard.write, tmp_path)
            return pstats.Stats(profile).total_calls

        calls(1)  # what happens once: the schema, the templates
        few = calls(200)
        assert few < calls(1000) < 6 * few
        page, text = ((tmp_path / name).read_text() for name in ("leaderboard.html", "LEADERBOARD.md"))
        assert page.count('"v":') == 4000
        assert text.count("](results/") == 1000


def thousand() -> list[dict[str, Any]]:
    """A thousand results on ten data sets, two networks each."""
    return [
        record(
            f"method {i % 50}",
            {t: 60.0 + (i * 7 % 23) + 3 * math.log2(t) for t in (4, 8, 16, 32)},
            dataset=f"data {i // 100}",
            architecture=f"network {i // 50 % 2}",
        )
        for i in range(1000)
    ]


class TestCheck:
    def test_a_changed_result_is_noticed(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"a": record()})
        assert [s.partition(": ")[2][:21] for s in leaderboard.check(path)] == ["there is no such file"] * 2
        leaderboard.write(path)
        assert leaderboard.check(path) == []
        results.write(path / "results" / "b.json", record("IF"))
        assert [s.partition(": ")[2][:12] for s in leaderboard.check(path)] == ["differs from"] * 2

    def test_an_edited_page_is_noticed(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"a": record()})
        leaderboard.write(path)
        page = path / "LEADERBOARD.md"
        page.write_text(page.read_text().replace("88.00", "98.00"))
        (sentence,) = leaderboard.check(path)
        assert "LEADERBOARD.md: differs from line" in sentence

    def test_the_command_writes_and_checks(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"a": record()})
        assert runner.invoke(app, ["leaderboard", "--folder", str(path), "--check"]).exit_code == 1
        assert runner.invoke(app, ["leaderboard", "--folder", str(path)]).exit_code == 0
        assert runner.invoke(app, ["leaderboard", "--folder", str(path), "--check"]).exit_code == 0

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda t: t.replace('"energy_ratio": 0.2', '"energy_ratio": "x"'), "line {}: points[0].energy_ratio is"),
            (lambda t: t.replace('"samples": 10000', '"samples": 0'), "a.json: line {}: samples: 0 is less than"),
            (lambda t: t.replace('"split": "test",', ""), "a.json: split is missing"),
            (lambda t: t.replace('"split": "test",', '"split": "test"'), "a.json: line 6, column 3: not JSON"),
        ],
    )  # fmt: skip
    def test_a_bad_file_gives_line_and_field(self, tmp_path: Path, change: Callable[[str], str], sentence: str) -> None:
        path = folder(tmp_path, {"a": record()}) / "results" / "a.json"
        old = path.read_text()
        path.write_text(change(old))
        lines = zip(old.splitlines(), path.read_text().splitlines(), strict=False)
        number = next(i for i, (a, b) in enumerate(lines, start=1) if a != b)
        done = runner.invoke(app, ["leaderboard", "--folder", str(tmp_path)])
        assert done.exit_code == 2
        assert sentence.format(number) in done.output

    def test_a_bad_published_file_gives_line_and_field(self, tmp_path: Path) -> None:
        bad = copy.deepcopy(PUBLISHED)
        bad["results"][0]["value"] = "95.4"  # type: ignore[index]
        folder(tmp_path, {"a": record()})
        (tmp_path / "published").mkdir()
        (tmp_path / "published" / "p.json").write_text(json.dumps(bad, indent=1))
        with pytest.raises(results.ResultError, match=r"p\.json: line 15: results\[0\]\.value is '95\.4'"):
            leaderboard.check(tmp_path)

    def test_nothing_to_show_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(results.ResultError, match=r"holds no result file"):
            leaderboard.write(folder(tmp_path, {}))
        with pytest.raises(results.ResultError, match="there is no such folder"):
            leaderboard.write(tmp_path / "nowhere")


def test_every_published_number_names_its_source() -> None:
    found = leaderboard.read_published(BENCHMARKS / "published")
    assert found
    assert all(p.paper and p.source for p in found)
