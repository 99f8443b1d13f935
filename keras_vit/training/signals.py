"""Stop signals: Ctrl-C, and SIGTERM at the end of a machine's lease."""

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Records SIGINT and SIGTERM within a `with` block, so that a run saves a checkpoint before it ends.

    A second SIGINT interrupts at once. Outside the main thread, where Python has no signal handlers, it records none.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def exit(self) -> None:
        """Ends the process as the received signal would: KeyboardInterrupt, or exit status 143; returns if none was."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received:
            raise SystemExit(128 + self.received)
