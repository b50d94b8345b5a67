"""The page on the papers: no config and no published figure is missing, and "ours" is what was measured."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from benchmarks import papers
from benchmarks.papers.again import command, stale
from benchmarks.papers.row import committed
from snnbench import catalogue
from snnbench.leaderboard.published import read_published
from snnconv import methods

ROOT = Path(__file__).parents[2]
ROWS = [(key, row) for key in papers.PAPERS for row in papers.ROWS[key]]
PAGE = (ROOT / "docs/papers.md").read_text(encoding="utf-8")

# data sets of no paper, and networks that the papers' begin with or are held against
OTHER_DATA = {"bccd", "camvid", "coco_stuff", "digits", "moving_digits", "ucf101"}
OTHER_CONFIGS = {
    "cifar10/alexnet", "cifar10/preactresnet18", "cifar10/preactresnet18_activated", "cifar10/resnet20_finetune",
    "cifar10/resnet34", "cifar10/vgg11", "cifar10/vgg16", "cifar100/alexnet", "cifar100/preactresnet18",
    "cifar100/resnet18", "cifar100/resnet20", "cifar100/vgg11", "cifar100/vgg16", "imagenet/efficientnet_lite0",
    "imagenet/efficientnet_lite0_samples", "imagenet/resnet26", "coco/faster_rcnn_r50", "coco/yolov2_tiny",
    "voc/faster_rcnn_r50", "voc/fcos_r18", "voc/fcos_r50", "voc/retinanet_r18", "voc/retinanet_r50", "voc/yolov2_tiny",
    "half_cheetah/sac", "half_cheetah/td3", "hopper/sac", "hopper/td3", "inverted_double_pendulum/sac_normalised",
    "inverted_double_pendulum/td3",
}  # fmt: skip


def test_every_config_of_a_row_is_there() -> None:
    assert {name for _, row in ROWS for name in row.configs} <= set(catalogue.names())


def test_every_config_of_the_papers_data_sets_is_in_a_row() -> None:
    shown = {name for _, row in ROWS for name in row.configs}
    wanted = {name for name in catalogue.names() if name.partition("/")[0] not in OTHER_DATA}
    assert wanted - shown == OTHER_CONFIGS


@pytest.mark.parametrize("key", papers.PAPERS)
def test_every_published_figure_is_in_one_row(key: str) -> None:
    publications = papers.PAPERS[key]
    wanted = [p for p in read_published(ROOT / "benchmarks/published") if p.paper in publications]
    found = Counter(p for row in papers.ROWS[key] for p in papers.stated(publications, row))
    assert found == Counter(wanted)
    for p in wanted:
        assert f"{p.value:g}" in papers.table(key).replace(f"{p.value:.2f}", f"{p.value:g}")


def test_rows_without_a_result_say_why_and_those_with_one_show_it() -> None:
    for _, row in ROWS:
        if not any(papers.measured(row)):
            assert row.why or papers.NOT_RUN[row.data], row
        if row.configs and not row.why:
            assert not any(papers.measured(row)), f"{row.network} on {row.data} has results: say what of them differs"


def test_ours_are_the_figures_of_the_result_file() -> None:
    record = json.loads((ROOT / "benchmarks/results/cifar10/resnet-20-qcfs-4-levels/srp.json").read_text())
    shown = ", ".join(f"{p['metrics']['top1']:.2f} ({p['timesteps']})" for p in record["points"])
    (line,) = [line for line in papers.table("srp").splitlines() if "`cifar10/resnet20_qcfs4`" in line]
    assert f"SRP {shown}" in line
    assert f"source {record['ann']['metrics']['top1']:.2f}" in line


def test_operations_until_most_of_the_accuracy_are_on_the_line_between_points() -> None:
    record = json.loads((ROOT / "benchmarks/results/cifar10/ltb-delayed-readout.json").read_text())
    (first, second, *_), goal = record["points"], 0.95 * record["ann"]["metrics"]["top1"]
    low, high = first["metrics"]["top1"], second["metrics"]["top1"]
    assert low < goal < high
    expected = first["sops"] + (goal - low) / (high - low) * (second["sops"] - first["sops"])
    (line,) = [line for line in papers.table("ltb").splitlines() if "`cifar10/resnet20`" in line]
    assert f" / {expected / 1e6:,.4g} |" in line


def test_a_row_of_the_delay_of_before_says_so_and_has_a_command_that_measures_it_again() -> None:
    old = json.loads((ROOT / "benchmarks/results/bccd/retinanet-resnet-18-32-channels/if.json").read_text())
    assert not stale(old)
    old["method"] = {"name": "LocalThresholdBalancing", "fields": {"delay": "auto"}}
    assert stale(old)
    new = {k: v for k, v in methods.LocalThresholdBalancing(8).to_dict().items() if k != "name"}
    assert not stale(old | {"method": {"name": "LocalThresholdBalancing", "fields": new}})
    for record in filter(stale, committed().values()):
        words = shlex.split(command(record))
        assert words[-2:] == ["--methods", record["label"]]
        assert all((ROOT / word).is_file() for word in words if word.endswith(".py"))
    said = sum("the delay of before" in line for line in papers.table("ltb").splitlines())
    assert said == sum(any(stale(r) for _, r in papers.measured(row)) for row in papers.ROWS["ltb"])


def test_the_page_has_a_table_for_each_paper() -> None:
    for key in papers.PAPERS:
        assert f"<!-- figures: paper_{key} -->" in PAGE
