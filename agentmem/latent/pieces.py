"""What takes long to make and is made once, a piece at a time: whoever needs it goes on where the last one stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Pieces(Generic[T]):
    """begin: makes it, a piece before each yield. Pieces follow one another whoever asks, so that bits are the same.

    Of one thread. What fails is begun anew by the next who asks.
    """

    def __init__(self, begin: Callable[[], Generator[None, None, T]]) -> None:
        self._begin = begin
        self._steps: Generator[None, None, T] | None = None
        self._made: list[T] = []

    def making(self) -> Generator[None, None, T]:
        """Yields before each piece that is lacking."""
        while not self._made:
            yield
            self._go_on()  # others may have come between
        return self._made[0]

    @property
    def whole(self) -> T:
        """What is lacking is made now."""
        while not self._made:
            self._go_on()
        return self._made[0]

    def _go_on(self) -> None:
        if self._made:
            return
        steps = self._steps = self._steps or self._begin()
        try:
            next(steps)
        except StopIteration as end:
            self._made.append(end.value)
            self._steps = None
        except BaseException:
            self._steps = None
            raise
