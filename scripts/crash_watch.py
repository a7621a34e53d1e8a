"""Listen to the processes of a run, and stop at a chosen operation of theirs."""

from __future__ import annotations

import os
import socketserver
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HOOK = Path(__file__).resolve().parent / "crash_hook"


@dataclass(frozen=True)
class Moment:
    """A moment of a run: the operation `number` of the processes of a kind, and seconds after it."""

    kind: str
    number: int
    delay: float

    @property
    def stage(self) -> str:
        """Stage of the workflow, `head` or `handlers`."""
        return self.kind.split()[0]


@dataclass(frozen=True)
class Operation:
    """What a process was about to do."""

    pid: int
    event: str
    path: str


class Watch:
    """Counts the operations of all processes of a run by kind, and catches one of them.

    Parameters
    ----------
    socket
        Where to listen; a short path.
    folder
        The folder whose files count.
    """

    def __init__(self, socket: Path, folder: Path) -> None:
        self.socket, self.folder = socket, folder
        self.lock = threading.Lock()
        self.expect(None)
        watch = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    watch.note(line.decode().rstrip("\n"))
                    self.wfile.write(b".")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 100

            def handle_error(self, *_: object) -> None:
                """Keep quiet where a process is killed while it speaks."""

        self.server = Server(str(socket), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def environment(self) -> dict[str, str]:
        """Return what a run needs in its environment to be heard."""
        paths = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH", ""))))
        return {"PYTHONPATH": paths, "CRASH_TEST": f"{self.socket}{os.pathsep}{self.folder}"}

    def expect(self, moment: Moment | None) -> None:
        """Forget what was counted, and catch this moment of the next run."""
        with self.lock:
            self.moment = moment
            self.counts: Counter[str] = Counter()
            self.caught: Operation | None = None
            self.reached, self.released = threading.Event(), threading.Event()

    def note(self, line: str) -> None:
        """Count one operation; hold the process that does it where it is the one."""
        kind, pid, event, path = line.split("\t", 3)
        with self.lock:
            self.counts[kind] += 1
            moment, released = self.moment, self.released
            if moment is None or kind != moment.kind or self.counts[kind] != moment.number:
                return
            self.caught = Operation(int(pid), event, path)
            self.reached.set()
        if not moment.delay:
            released.wait(60)

    def remove(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()
        self.socket.unlink(missing_ok=True)
