"""Something that is being watched, until it is cancelled."""

from collections.abc import Callable


class Watch:
    """A subscription; `cancel` ends it and gives back what it held open."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close: Callable[[], None] | None = close

    def cancel(self) -> None:
        """Hear no more; harmless when called twice."""
        close, self._close = self._close, None
        if close is not None:
            close()
