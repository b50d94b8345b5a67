"""--seeds: a list of seeds, and where the results of each stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import main
from benchmarks.data import DataError
from snnbench.seeds import seeds_of
from snnconv.cli.app import app
from tests.command_line import Runner


@pytest.mark.parametrize("given", ["", "a", "0,0", "01,1", "-1", "1,,2", "1.5"])
def test_what_is_no_list_of_seeds_is_refused_in_words(given: str) -> None:
    with pytest.raises(ValueError, match="is a list of different whole numbers such as 0,1,2, got"):
        seeds_of(given)


def test_a_harness_runs_once_a_seed_each_in_its_folder(tmp_path: Path) -> None:
    options = main.parser("a task", "digits").parse_args(["--seeds", "4, 0", "--out", str(tmp_path)])
    assert [(o.seed, o.out) for o in main.each_seed(options)] == [(4, tmp_path), (0, tmp_path / "seed-0")]
    one = main.parser("a task", "digits").parse_args(["--seed", "7", "--out", str(tmp_path)])
    assert [(o.seed, o.out) for o in main.each_seed(one)] == [(7, tmp_path)]
    options.seeds = "0,0"
    with pytest.raises(DataError, match="different whole numbers"):
        list(main.each_seed(options))


def test_twins_are_refused_before_any_work_where_a_seed_has_no_results(tmp_path: Path) -> None:
    options = main.parser("a task", "digits").parse_args(["--twins", "--seeds", "0,1", "--out", str(tmp_path)])
    (tmp_path / "signed.json").write_text("{}")
    with pytest.raises(DataError, match="seed-1 holds no results, and --twins adds to stored ones"):
        list(main.each_seed(options))
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "signed.json").write_text("{}")
    assert [run.seed for run in main.each_seed(options)] == [0, 1]


def test_bench_refuses_before_it_works() -> None:
    result = Runner().invoke(app, ["bench", "bccd/retinanet_r18", "--seeds", "1,1"])
    assert result.exit_code == 2
    assert "--seeds is a list of different whole numbers" in " ".join(result.output.split())
