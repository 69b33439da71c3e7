"""Prefetching and parallel reading: the same results, in order, and no thread left."""

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kzoo
from kzoo.datasets.loading import Kept, Prefetched, kept_if_small, parallel_map


def threads() -> int:
    names = [thread.name for thread in threading.enumerate()]
    return sum(name.startswith("kzoo-batches") for name in names)


class Numbers:
    """Batches that count how often each was made, and how many there were at once."""

    def __init__(self) -> None:
        self.made: Counter[int] = Counter()
        self.held = 0

    def __getitem__(self, i: int) -> int:
        self.made[i] += 1
        if i == 13:
            raise ValueError("batch 13")
        return i * i


@pytest.mark.parametrize("start", [0, 5])
def test_batches_are_those_of_the_stream(start: int) -> None:
    data = kzoo.load_dataset("digits").augmented("shift", "rotation", mixup=0.2)
    plain = data.train_batches(32, 3, start)
    with Prefetched(data.train_batches(32, 3, start), ahead=3) as batches:
        for i in range(60):  # over a pass and a half
            for key, array in batches[i].items():
                np.testing.assert_array_equal(array, plain[i][key])


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 4))
def test_any_order_may_be_asked_for(order: list[int], ahead: int) -> None:
    with Prefetched(list(range(10)), ahead) as batches:
        assert [batches[i] for i in order] == order
        assert list(batches) == list(range(10))
        assert len(batches) == 10


def test_in_order_each_batch_is_made_once_and_few_ahead() -> None:
    numbers = Numbers()
    with Prefetched(numbers, ahead=2) as batches:
        for i in range(8):
            assert batches[i] == i * i
            assert len(batches._begun) <= 3
            assert max(numbers.made) <= i + 2
    assert set(numbers.made.values()) == {1}


def test_exception_comes_with_its_batch_and_no_thread_stays() -> None:
    with (
        pytest.raises(ValueError, match="batch 13"),
        Prefetched(Numbers(), ahead=4) as batches,
    ):
        for i in range(20):
            assert batches[i] == i * i
            assert i < 13
    assert threads() == 0


def test_interrupt_leaves_no_thread() -> None:
    with pytest.raises(KeyboardInterrupt), Prefetched(Numbers()) as batches:
        _ = batches[0]
        assert threads() > 0
        raise KeyboardInterrupt
    assert threads() == 0
    batches.close()  # twice does no harm


def test_batches_are_made_while_the_caller_works() -> None:
    begun = threading.Event()

    class Slow:
        def __getitem__(self, i: int) -> int:
            if i == 1:
                begun.set()
            return i

    with Prefetched(Slow()) as batches:
        _ = batches[0]
        assert begun.wait(10)  # batch 1, which nobody has asked for


# --- reading ----------------------------------------------------------------------


@given(st.lists(st.integers(-99, 99), max_size=60))
def test_parallel_map_is_map(items: list[int]) -> None:
    assert parallel_map(lambda x: x * x, items) == [x * x for x in items]


def test_parallel_map_raises_the_first_exception() -> None:
    def picky(x: int) -> int:
        if x >= 30:
            raise ValueError(f"item {x}")
        return x

    with pytest.raises(ValueError, match="item 30"):
        parallel_map(picky, range(100))


def test_parallel_map_uses_several_threads() -> None:
    seen = set()

    def wait(x: int) -> None:
        seen.add(threading.get_ident())
        time.sleep(0.002)

    parallel_map(wait, range(64))
    assert threading.get_ident() not in seen


class Read:
    """Examples that count how often each is read."""

    def __init__(self, inputs: np.ndarray) -> None:
        self.inputs = inputs
        self.labels = np.arange(len(inputs))
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: np.ndarray) -> np.ndarray:
        self.reads.update(index.tolist())
        return self.inputs[index]

    def contents(self) -> Any:
        yield self.inputs.tobytes()


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=9), max_size=6))
def test_kept_rows_are_read_once(parts: list[list[int]]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1)).astype("uint8")
    source = Read(images)
    kept = Kept(source, (4, 4, 1))
    for part in parts:
        np.testing.assert_array_equal(kept.rows(np.array(part)), images[part])
    assert all(count == 1 for count in source.reads.values())
    assert len(kept) == 9
    assert list(kept.contents()) == list(source.contents())


def test_only_small_sets_are_kept() -> None:
    splits = {name: Read(np.zeros((2**10, 16, 32, 1))) for name in ("train", "test")}
    assert kept_if_small(splits, (16, 32, 1), 0) == splits
    kept = kept_if_small(splits, (16, 32, 1), 1)
    assert all(isinstance(split, Kept) for split in kept.values())
    assert kept_if_small(splits, (16, 33, 1), 1) == splits
