"""Shared buffers: what is handed over stays as it is until nobody looks at it any more."""

from __future__ import annotations

import gc
import multiprocessing

import torch

from speechmill.ring import Borrower, Lender, Lent


def pair() -> tuple[Borrower, Lender]:
    borrower = Borrower(1)
    return borrower, Lender(borrower.ring, 0, borrower.returned[0])


def filled(lender: Lender, value: int, rows: int = 3, samples: int = 50) -> Lent:
    lent, into = lender.take(rows, samples)
    into[:] = value
    return lent


def test_a_buffer_comes_back_when_the_last_view_is_gone() -> None:
    borrower, lender = pair()
    first = filled(lender, 1)
    audio = borrower.receive(first)
    assert (audio.shape, audio.dtype) == ((3, 50), torch.int16)
    view, array = audio[1:, 5:10], audio.numpy()[0]
    del audio
    gc.collect()
    second = filled(lender, 2)
    assert second.slot != first.slot
    assert bool((view == 1).all())
    assert (array == 1).all()
    del view
    gc.collect()
    assert filled(lender, 3).slot not in (first.slot, second.slot), "a numpy array still looks into it"
    assert (array == 1).all()
    del array
    gc.collect()
    assert filled(lender, 4).slot == first.slot


def test_memory_is_sent_once() -> None:
    borrower, lender = pair()
    assert filled(lender, 1).memory is not None
    first = filled(lender, 2)
    del first
    lent = filled(lender, 3)
    audio = borrower.receive(lent)
    del audio
    gc.collect()
    again = filled(lender, 4)
    assert (again.slot, again.memory) == (lent.slot, None)
    assert bool((borrower.receive(again) == 4).all())


def test_a_larger_batch_gets_another_buffer() -> None:
    borrower, lender = pair()
    small = filled(lender, 1)
    borrower.receive(small)
    gc.collect()
    assert filled(lender, 2, samples=60).slot == small.slot, "a little larger fits"
    borrower.receive(filled(lender, 3, samples=60))
    large = filled(lender, 4, samples=5000)
    assert large.slot != small.slot
    assert borrower.receive(large).shape == (3, 5000)


def test_who_keeps_everything_gets_memory_for_each() -> None:
    borrower, lender = pair()
    kept = [borrower.receive(filled(lender, value)) for value in range(260)]
    assert all(bool((audio == value).all()) for value, audio in enumerate(kept))


def test_it_is_the_same_memory_in_another_process() -> None:
    context = multiprocessing.get_context("spawn")
    borrower = Borrower(1)
    here, there = context.Pipe()
    process = context.Process(target=lend, args=(borrower.ring, borrower.returned[0], there))
    process.start()
    slots = []
    for value in range(4):
        here.send(value)
        lent = here.recv()
        slots.append(lent.slot)
        assert bool((borrower.receive(lent) == value).all())
        gc.collect()
    here.send(None)
    process.join()
    assert process.exitcode == 0
    assert len(set(slots)) == 1


def lend(
    ring: int, returned: multiprocessing.connection.Connection, connection: multiprocessing.connection.Connection
) -> None:
    lender = Lender(ring, 0, returned)
    while (value := connection.recv()) is not None:
        connection.send(filled(lender, value))


def test_a_late_return_to_a_worker_that_ended_is_nothing() -> None:
    borrower, lender = pair()
    audio = borrower.receive(filled(lender, 1))
    for connection in borrower.returned:
        connection.close()
    del borrower, lender
    kept = audio.numpy().copy()
    del audio
    gc.collect()
    assert (kept == 1).all()
