from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from blemish.errors import ImageError
from blemish.images import decode_ahead, decoding_peak, waiting
from blemish.images.ahead import AT_ONCE, THREADS, WAITING, Room


def test_results_come_in_order_and_few_wait_in_memory() -> None:
    lock, waiting, most = threading.Lock(), 0, 0

    def slow(item: int) -> int:
        nonlocal waiting, most
        time.sleep(0.002 * (item % 3))
        with lock:
            waiting += 1
            most = max(most, waiting)
        return item

    seen = []
    for item in decode_ahead(slow, range(60), ahead=7):
        with lock:
            waiting -= 1
        seen.append(item)
    assert seen == list(range(60))
    assert most <= 8


def test_an_unreadable_item_is_handed_on_and_another_error_ends_it() -> None:
    def read(item: int) -> int:
        if item == 1:
            raise ImageError("x", "is bad")
        if item == 3:
            raise RuntimeError("a fault")
        return item

    results = decode_ahead(read, range(4))
    assert next(results) == 0
    assert isinstance(next(results), ImageError)
    assert next(results) == 2
    with pytest.raises(RuntimeError, match="a fault"):
        next(results)


def test_no_more_bytes_are_shared_at_one_time_than_there_are() -> None:
    room, lock, taken, most = Room(100), threading.Lock(), 0, 0

    def read(size: int) -> None:
        nonlocal taken, most
        with room.share(size):
            with lock:
                taken += size
                most = max(most, taken)
            time.sleep(0.001)
            with lock:
                taken -= size

    threads = [threading.Thread(target=read, args=(size,)) for size in 10 * [20, 30, 70]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == 0
    assert 70 <= most <= 100


def test_one_that_takes_more_than_there_is_has_it_alone() -> None:
    room, began, ended = Room(100), threading.Event(), []

    def small() -> None:
        began.set()
        with room.share(1):
            ended.append("small")

    with room.share(1000):
        thread = threading.Thread(target=small)
        thread.start()
        began.wait()
        thread.join(0.05)
        ended.append("large")
    thread.join()
    assert ended == ["large", "small"]


def test_a_large_one_is_not_passed_over_by_small_ones_that_come_later() -> None:
    room, order, lock = Room(100), [], threading.Lock()

    def read(name: str, size: int) -> None:
        with room.share(size), lock:
            order.append(name)

    with ExitStack() as small:
        small.enter_context(room.share(10))
        threads = [threading.Thread(target=read, args=("large", 95))]
        threads[0].start()
        while not room._turn.locked():
            time.sleep(0.001)  # until the large one waits
        threads.append(threading.Thread(target=read, args=("later", 10)))
        threads[1].start()
        threads[1].join(0.05)
    for thread in threads:
        thread.join()
    assert order == ["large", "later"]


def test_a_share_is_given_back_where_decoding_fails() -> None:
    room = Room(100)
    for _ in range(3):
        with pytest.raises(ImageError), room.share(1000):
            raise ImageError("x", "is bad")
    with room.share(1000):
        pass


def test_decoding_takes_as_much_as_the_largest_at_one_time_or_as_there_is() -> None:
    assert decoding_peak([]) == 0
    assert decoding_peak(100 * [1000]) == 1000 * THREADS
    assert decoding_peak([10, 2 * AT_ONCE, 10]) == 2 * AT_ONCE
    assert decoding_peak(100 * [AT_ONCE]) == AT_ONCE


def test_fewer_wait_where_they_are_large() -> None:
    assert waiting(3 * 256 * 256, 64) == 64
    assert waiting(3 * 4096 * 4096, 64) * 3 * 4096 * 4096 <= WAITING
    assert waiting(WAITING, 64) == 2
