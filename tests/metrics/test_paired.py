"""McNemar's test: what only one of two classifiers answers right decides, exactly."""

from __future__ import annotations

import math

import pytest
import torch

from snnconv.metrics import mcnemar


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor([both, first, second, neither])
    return (
        torch.tensor([True, True, False, False]).repeat_interleave(counts),
        torch.tensor([True, False, True, False]).repeat_interleave(counts),
    )


def test_the_p_value_is_that_of_a_fair_coin() -> None:
    found = mcnemar(*outcomes(50, 8, 2, 40))
    by_hand = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    assert found.p_value == pytest.approx(by_hand)
    assert (found.only_first, found.only_second, found.samples) == (8, 2, 100)
    assert found.difference == pytest.approx(6.0)


def test_what_both_answer_alike_says_nothing() -> None:
    assert mcnemar(*outcomes(50, 8, 2, 40)).p_value == mcnemar(*outcomes(5000, 8, 2, 4000)).p_value


def test_equal_answers_cannot_be_told_apart() -> None:
    assert mcnemar(*outcomes(60, 0, 0, 40)).p_value == 1.0
    assert mcnemar(*outcomes(60, 5, 5, 40)).p_value == 1.0


def test_many_answers_are_counted_exactly() -> None:
    found = mcnemar(*outcomes(0, 50_600, 49_400, 0)).p_value
    z = (50_600 - 49_400 - 1) / math.sqrt(100_000)  # the normal distribution, with a correction for whole numbers
    assert found == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-2)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [([1, 0], [1], "first has 2 inputs and second 1"), ([3, 1], [1, 0], "first: McNemar"), ([], [], "first: McNemar")],
)
def test_what_is_no_pair_of_outcomes_is_refused(first: list, second: list, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        mcnemar(first, second)
