"""Starting worker processes, by the server that forks them or each anew, and what their parent can do with one.

They import nothing of the current folder, nor of the main program's, whose code they never run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import Literal, Protocol

from omnisource.data.loading.pool import bootstrap
from omnisource.data.loading.pool.messages import NUMBER
from omnisource.errors import UserError
from omnisource.import_path import environment_of_children, further_folders
from omnisource.signals import STOP_SIGNALS

StartMethod = Literal["forkserver", "spawn"]

# A process forked from one that has used FFmpeg can hang on FFmpeg's locks. The server has only imported it; elsewhere
# than on Linux, libraries of the system may start threads on import, so that even its forks are unsafe.
START_METHOD: StartMethod = "forkserver" if sys.platform == "linux" else "spawn"

UNKNOWN_EXIT_CODE = 255
"""Exit code of a worker whose server was gone before it could report it."""


class ChildProcess(Protocol):
    """A process that was started.

    Attributes:
        process_id: Its process id.
    """

    process_id: int

    def wait(self, seconds: float) -> int | None:
        """Returns the exit code, minus the signal's number if one ended it; None if it runs on for so long."""
        ...

    def kill(self) -> None:
        """Sends SIGKILL, unless it has ended."""
        ...

    def close(self) -> None:
        """Gives up what is kept to wait for it."""
        ...


def start_process(start_method: StartMethod, channel: socket.socket, modules: Sequence[str]) -> ChildProcess:
    """Starts a worker.

    Args:
        start_method: How: "forkserver" or, slower, "spawn".
        channel: Its end of the socket between it and this process, which may close it then.
        modules: What workers import, for the server that forks them if it is still to be started.

    Raises:
        OSError: If the system has no room for a process, or no descriptor is left.
        UserError: If the server that forks workers cannot be started; it has shown why.
    """
    with signals_withheld():
        return _forked(channel, modules) if start_method == "forkserver" else _Spawned(channel)


@contextlib.contextmanager
def signals_withheld() -> Iterator[None]:
    """Holds back the signals that workers ignore; a process that is started meanwhile never gets them.

    Until a worker or its server comes to its first line it has much to import, but it inherits what is held back. This
    process gets what has come when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Spawned:
    """A worker that was started anew."""

    def __init__(self, channel: socket.socket) -> None:
        self._process = _started("load", channel)
        self.process_id = self._process.pid

    def wait(self, seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        pass


class _Forked:
    """A worker that the server has forked, and reports on."""

    def __init__(self, process_id: int, report: socket.socket) -> None:
        self.process_id = process_id
        self._report = report
        self._exit_code: int | None = None

    def wait(self, seconds: float) -> int | None:
        if self._exit_code is None and connection.wait([self._report], seconds):
            self._exit_code = _number(self._report)
            if self._exit_code is None:  # the server is gone: nobody would report its end, so that it is ended now
                self._exit_code = UNKNOWN_EXIT_CODE
                self._send_kill()
        return self._exit_code

    def kill(self) -> None:
        if self.wait(0) is None:
            self._send_kill()

    def close(self) -> None:
        self._report.close()

    def _send_kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGKILL)


class _Server:
    """The process that forks workers for this one. It ends with this one, whose end closes its socket."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _started("fork", theirs, modules)
            except BaseException:
                self._socket.close()
                raise

    def fork(self, channel: socket.socket) -> _Forked | None:
        """Returns a new worker; None if the server is gone.

        Raises:
            OSError: If the system has no room for a process, or no descriptor is left.
        """
        report, theirs = socket.socketpair()
        try:
            with theirs, contextlib.suppress(ConnectionError):
                socket.send_fds(self._socket, [b"\0"], [channel.fileno(), theirs.fileno()])
            found = _number(report)
            if found is not None and found > 0:
                return _Forked(found, report)
        except BaseException:
            report.close()
            raise
        report.close()
        if found is not None:
            raise OSError(-found, os.strerror(-found))
        return None

    def close(self) -> None:
        """Waits for the server, which is gone or has no reason to stay."""
        self._socket.close()
        self._process.wait()


_servers: list[_Server] = []  # one at most, for all pools of this process
_lock = threading.Lock()

STARTS = 2
"""Starts of the server before it is given up: the system may have killed it, being out of memory."""


def _forked(channel: socket.socket, modules: Sequence[str]) -> _Forked:
    with _lock:
        for _ in range(STARTS):
            if not _servers:
                _servers.append(_Server(modules))
            forked = _servers[0].fork(channel)
            if forked is not None:
                return forked
            _servers.pop().close()
    raise UserError(
        "the process that forks loading workers did not start; its own error, if it had one, stands above. With "
        "num_workers=0 there are no workers."
    )


_RUNNING_INTERPRETER = "/proc/self/exe"


def _started(role: Literal["fork", "load"], end: socket.socket, modules: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Starts Python with `bootstrap`, and one socket of this process."""
    flags = ["-P"]  # nothing of the current folder
    if sys.flags.isolated:
        flags.append("-I")
    else:
        flags += ["-E"] * sys.flags.ignore_environment + ["-s"] * sys.flags.no_user_site
    arguments = [role, str(end.fileno()), os.pathsep.join(further_folders()), *modules]
    command = [sys.executable, *flags, f"-Xutf8={sys.flags.utf8_mode}", os.path.abspath(bootstrap.__file__), *arguments]
    start = functools.partial(
        subprocess.Popen, command, stdin=subprocess.DEVNULL, env=environment_of_children(), pass_fds=[end.fileno()]
    )
    try:
        return start()
    except (PermissionError, FileNotFoundError):
        if not os.path.exists(_RUNNING_INTERPRETER):
            raise
        # Whoever started this process could reach the interpreter, and its user cannot; or it was replaced meanwhile.
        return start(executable=_RUNNING_INTERPRETER)


def _number(report: socket.socket) -> int | None:
    """Returns the next number that comes over a socket; None if its other end is closed."""
    received = b""
    while len(received) < NUMBER.size:
        try:
            part = report.recv(NUMBER.size - len(received))
        except ConnectionError:
            return None
        if not part:
            return None
        received += part
    return NUMBER.unpack(received)[0]
