"""Average precision and calibration error against numbers worked out by hand."""

import pytest

from events.pure.calibration import average_precision, expected_calibration_error


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [True, False, True, False], (1 + 2 / 3) / 2),
        ([0.1, 0.2, 0.3], [True, True, False], (1 / 2 + 2 / 3) / 2),
        # Equal scores count together, in whatever order they come.
        ([0.5, 0.5, 0.5, 0.5], [True, False, False, False], 1 / 4),
        ([0.5, 0.5, 0.9], [False, True, True], (1 + 2 / 3) / 2),
        ([0.3, 0.4], [True, True], 1.0),
        ([0.3, 0.4], [False, False], None),
        ([], [], None),
    ],
)
def test_average_precision(scores, right, expected) -> None:
    assert average_precision(scores, right) == (None if expected is None else pytest.approx(expected))
    assert average_precision(scores[::-1], right[::-1]) == average_precision(scores, right)


def test_calibration_error_is_the_weighted_distance_of_each_bin() -> None:
    # Bins [0.9, 1]: mean 0.95 of two, one right; [0, 0.1): 0.05 of one, right; 1.0 belongs to the last.
    assert expected_calibration_error([0.9, 1.0, 0.05], [True, False, True]) == pytest.approx((2 * 0.45 + 0.95) / 3)
    assert expected_calibration_error([0.5] * 4, [True, False] * 2) == 0.0
    assert expected_calibration_error([], []) == 0.0
