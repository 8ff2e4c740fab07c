"""The first file that a process of workers runs: it has the very package of its parent, and no other of that name.

Its arguments: "fork" for what forks workers or "load" for a worker, the descriptor of its socket, further folders to
import from, and the modules that are imported for workers.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys


def main() -> None:
    """Does what the arguments ask for."""
    role, descriptor, further, *modules = sys.argv[1:]
    sys.path += [entry for entry in further.split(os.pathsep) if entry and entry not in sys.path]
    _load_package(os.path.abspath(os.path.join(__file__, *[os.pardir] * 4)))
    if role == "fork":
        from omnisource.data.loading.pool.fork_server import serve_forks

        serve_forks(int(descriptor), modules)
    else:
        from omnisource.data.loading.pool.worker import serve

        serve(socket.socket(fileno=int(descriptor)))


def _load_package(folder: str) -> None:
    """Imports `omnisource` from its folder, whatever else has that name."""
    spec = importlib.util.spec_from_file_location(
        "omnisource", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["omnisource"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main()
