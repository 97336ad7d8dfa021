"""How fast a run goes, and how long it will still take, from that and from how long the last one took."""

from collections import deque

_WINDOW = 10.0  # seconds that a rate is taken over
_TRUSTED = 2.0  # per cent: before so much is done, its rate says nothing about the end


class Pace:
    """Of one run; `since` is the wall time at which it began, `last` the seconds that the last one took."""

    def __init__(self, since: float, last: float | None = None) -> None:
        self.since, self.last = since, last
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, count: int | None) -> None:
        """So many bytes are done."""
        if count is None:
            return
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()

    def rate(self, now: float) -> float | None:
        """Bytes a second in the last moments; None where nothing was heard for long."""
        if len(self._seen) < 2 or self._seen[-1][0] < now - _WINDOW:
            return None
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began and after >= before else None

    def left(self, now: float, percent: float | None) -> float | None:
        """Seconds to the end, as far as can be told."""
        return seconds_left(max(0.0, now - self.since), percent, self.last)


def seconds_left(elapsed: float, percent: float | None, last: float | None) -> float | None:
    """The further a run is, the more counts how fast it goes, and the less how long the last one took.

    >>> seconds_left(30, 50, None), seconds_left(30, 50, 90), seconds_left(30, None, 90)
    (30.0, 45.0, 60)
    >>> seconds_left(30, None, 20) is None, seconds_left(30, 0.5, None) is None
    (True, True)
    """
    by_last = last - elapsed if last is not None and last > elapsed else None
    by_rate = elapsed * (100 - percent) / percent if percent is not None and percent >= _TRUSTED else None
    if by_rate is None or by_last is None or percent is None:
        return by_rate if by_last is None else by_last
    share = percent / 100
    return by_rate * share + by_last * (1 - share)
