"""The process that forks workers: what all need is imported once, and shared for as long as nobody writes to it.

It has only imported FFmpeg and never used it, so that its forks are safe. `multiprocessing` has such a server, too; but
that one imports from the current folder, runs the main program in every worker, and needs a folder for its sockets.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import NoReturn

from omnisource.data.loading.pool.messages import NUMBER
from omnisource.data.loading.pool.worker import ignore_stop_signals, serve
from omnisource.errors import describe_system_error
from omnisource.printing import notice


def serve_forks(descriptor: int, modules: Sequence[str]) -> None:
    """Imports modules and then forks workers, until the parent is gone.

    Args:
        descriptor: Of the socket to the parent.
        modules: What all workers need.
    """
    ignore_stop_signals()
    for name in modules:
        importlib.import_module(name)
    # The garbage collector writes to every object that it looks at; frozen ones it leaves alone, which saves each
    # worker about 28 MiB of its own.
    gc.collect()
    gc.freeze()
    _ForkServer(socket.socket(fileno=descriptor)).run()


class _ForkServer:
    """Forks a worker for every pair of sockets that comes from the parent.

    The first socket of a pair is the worker's channel. To the second goes the worker's process id, or an error number
    below 0 if there can be no worker; and, once it has ended, its exit code.
    """

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._reports: dict[int, socket.socket] = {}  # by process id
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # or nothing would be woken
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        while True:
            ready = connection.wait([self._parent, self._woken])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
                self._report_ended()
            if self._parent in ready:
                message, descriptors, _, _ = socket.recv_fds(self._parent, 1, 2)
                if not message:
                    return
                channel, report = (socket.socket(fileno=number) for number in descriptors)
                self._fork(channel, report)
                channel.close()

    def _fork(self, channel: socket.socket, report: socket.socket) -> None:
        """Forks a worker and reports its process id; never returns in the worker."""
        try:
            process_id = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError), report:
                report.sendall(NUMBER.pack(-(error.errno or 1)))
            return
        if process_id == 0:
            _end_as(lambda: self._work(channel, report))
        self._reports[process_id] = report
        with contextlib.suppress(OSError):  # the parent has given it up
            report.sendall(NUMBER.pack(process_id))

    def _work(self, channel: socket.socket, report: socket.socket) -> None:
        """Is a worker. It keeps nothing of the others: their ends are seen by the sockets that close."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._parent, self._woken, self._waker, report, *self._reports.values()):
            end.close()
        serve(channel)

    def _report_ended(self) -> None:
        with contextlib.suppress(ChildProcessError):  # there are none left
            while True:
                process_id, status = os.waitpid(-1, os.WNOHANG)
                if not process_id:
                    return
                with contextlib.suppress(OSError), self._reports.pop(process_id) as report:
                    report.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _end_as(work: Callable[[], None]) -> NoReturn:
    """Does the work of a forked process, and ends it without what its parent would do at its end."""
    exit_code = 1
    try:
        work()
        exit_code = 0
    except BaseException as error:
        is_of_system = isinstance(error, OSError | RuntimeError)
        description = describe_system_error(error) if is_of_system else None
        if description is None:
            traceback.print_exc()
        else:
            notice(f"a loading worker: {description}")
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(exit_code)
