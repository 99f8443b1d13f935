"""Stops that are asked for from outside: Ctrl-C and the end of a machine's lease."""

import signal
import threading


class Signals:
    """Notes SIGINT and SIGTERM instead of dying of them, while in a `with` block.

    The second SIGINT works as ever. Outside the main thread, where Python has no signals, it notes nothing.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def leave(self):
        """Ends the process's work in the way that the signal is known by: KeyboardInterrupt, or exit status 143."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)
