from __future__ import annotations

import os
import signal

import pytest

from agent.demo.interruption import Interruption

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def raise_signal(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_interrupts_and_the_handler_of_before_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption(), pytest.raises(KeyboardInterrupt):
        raise_signal(number)
    assert signal.getsignal(number) is before


def test_only_the_first_interrupts() -> None:
    with Interruption():
        with pytest.raises(KeyboardInterrupt):
            raise_signal()
        for number in SIGNALS:
            raise_signal(number)  # what the first has set going is not cut short


def test_held_puts_it_off_to_the_end() -> None:
    done: list[str] = []

    def start_and_stop(interruption: Interruption) -> None:
        with interruption.held():
            with interruption.held():
                raise_signal()
            done.append("inner")
        done.append("not reached")

    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        start_and_stop(interruption)
    assert done == ["inner"]


def test_held_while_unwinding_does_not_interrupt_again() -> None:
    unwound: list[str] = []

    def interrupted(interruption: Interruption) -> None:
        try:
            raise_signal()
        finally:
            with interruption.held():
                raise_signal(signal.SIGTERM)
            unwound.append("all of it")

    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        interrupted(interruption)
    assert unwound == ["all of it"]


def test_an_error_in_held_is_not_hidden_by_an_interruption() -> None:
    def failing(interruption: Interruption) -> None:
        with interruption.held():
            raise_signal()
            raise ZeroDivisionError

    with Interruption() as interruption, pytest.raises(ZeroDivisionError):
        failing(interruption)
