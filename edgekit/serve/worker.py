"""A session and the thread that runs it."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import Protocol

from edgekit.runtimes import Session

__all__ = ["Task", "Worker"]


class Task(Protocol):
    """Something to do with a session."""

    def run(self, session: Session) -> None:
        """Do it, in the worker's thread. Keeps what it raises for itself."""

    def following(self, worker: Worker) -> Task | None:
        """What to do right after it; asked in the worker's thread."""

    def finish(self, worker: Worker) -> None:
        """Called in the event loop when it is done."""


class Worker:
    """Runs one task at a time on its session, and what follows it, outside the event loop.

    The thread is a daemon: an engine that hangs cannot keep the process from ending.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self._tasks: SimpleQueue[tuple[Task, asyncio.AbstractEventLoop] | None] = SimpleQueue()
        self._since: float | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def start(self, task: Task) -> None:
        """Hand it a task; from the event loop, and only when the last one has finished."""
        self._since = time.monotonic()
        self._tasks.put((task, asyncio.get_running_loop()))

    @property
    def busy_s(self) -> float:
        """For how long it has been at its task; 0 when it has none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    def close(self, timeout: float | None = None) -> None:
        """End the thread after its task and release the session; not from the event loop.

        Args:
            timeout: seconds to wait for the task; a thread that is still busy then is left alone,
                with its session.
        """
        self._tasks.put(None)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self.session.close()

    def _work(self) -> None:
        while (handed := self._tasks.get()) is not None:
            task, loop = handed
            following: Task | None = task
            while following is not None:
                task = following
                task.run(self.session)
                following = task.following(self)
                self._since = None if following is None else time.monotonic()
                try:
                    loop.call_soon_threadsafe(task.finish, self)
                except RuntimeError:  # the loop is closed: nobody waits for the task any more
                    return
