"""Operations until 90 and 95 % of the source network, and inferences for a joule."""

import pytest

from snnconv.metrics import frames_per_watt, operations_until
from snnconv.metrics.efficiency import FLOP_JOULES

CURVE = {4e6: 70.0, 1e6: 20.0, 2e6: 60.0, 8e6: 74.0}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (0.25, 1e6),
        (0.5, 1e6 + 1e6 * (37.5 - 20) / 40),
        (0.9, 2e6 + 2e6 * (67.5 - 60) / 10),
        (0.95, 4e6 + 4e6 * 1.25 / 4),
    ],
)
def test_the_crossing_lies_on_the_line_between_measurements(part, expected):
    assert operations_until(CURVE, 75.0, part) == pytest.approx(expected)


def test_a_goal_that_is_never_reached_has_no_operations():
    assert operations_until(CURVE, 75.0, 1.0) is None


def test_the_first_crossing_counts():
    assert operations_until({1.0: 0.0, 2.0: 90.0, 3.0: 10.0, 4.0: 95.0}, 90.0, 0.5) == 1.5


def test_the_source_networks_figure_is_the_papers():
    """A ResNet-34 has 3.64e9 operations an image: 22 FPS/W (arXiv 2409.03368, section 5.5)."""
    assert round(frames_per_watt(3.64e9, FLOP_JOULES)) == 22
    assert frames_per_watt(2e9) == pytest.approx(1 / (2e9 * 77e-15))


def test_values_that_make_no_sense_are_refused():
    for arguments in (({}, 90.0), ({-1.0: 5.0}, 90.0), (CURVE, 0.0), (CURVE, 90.0, 1.5), (CURVE, 90.0, 0.0)):
        with pytest.raises(ValueError, match=r"got|measurement"):
            operations_until(*arguments)
    for arguments in ((0.0,), (1.0, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            frames_per_watt(*arguments)
