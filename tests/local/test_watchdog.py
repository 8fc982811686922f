"""The watchdog says what is silent, as long as it is, and nothing where something happens."""

from __future__ import annotations

import threading

from local.watchdog import Watchdog


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.twice = threading.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) == 2:
            self.twice.set()


def test_what_does_not_answer_is_said_again_and_again() -> None:
    said = Said()
    with Watchdog(lambda: ["the exchange does not answer."], said, 0.01).watching():
        assert said.twice.wait(60)
    assert all(line.endswith(" s: the exchange does not answer.") for line in said.lines)


def test_where_everything_answers_that_is_said() -> None:
    said = Said()
    with Watchdog(list, said, 0.01).watching():
        assert said.twice.wait(60)
    assert all(
        line.endswith(": all that was started answers; it may only be slow.") for line in said.lines
    )


def test_what_happens_while_it_looks_keeps_it_quiet() -> None:
    said, looked = Said(), threading.Semaphore(0)

    def silent() -> list[str]:
        dog.happened()
        looked.release()
        return ["the exchange does not answer."]

    dog = Watchdog(silent, said, 0.01)
    with dog.watching():
        assert all(looked.acquire(timeout=60) for _ in range(3))
    assert said.lines == []
