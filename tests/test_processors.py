"""Work that is done ahead in threads, in order."""

import threading
import time
from collections.abc import Iterator

import pytest

from kpdetect.core.processors import available_processors, in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_the_order_of_the_items(workers: int) -> None:
    def run(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return 10 * number

    assert list(in_order(run, range(20), workers)) == [10 * number for number in range(20)]


def test_items_are_taken_a_few_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    for finished, _ in enumerate(in_order(abs, items(), workers=2, ahead=3), start=1):
        assert taken <= finished + 6
    assert taken == 100


def test_an_error_is_raised_when_its_result_is_due() -> None:
    results = in_order(lambda number: 1 // number, [2, 1, 0, 1], workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_one_worker_runs_in_the_calling_thread() -> None:
    assert set(in_order(lambda _: threading.get_ident(), range(3), workers=1)) == {threading.get_ident()}
    assert available_processors() >= 1
