"""Imported last by the server that forks loading workers, and by nobody else: its import is what it does.

Workers share the memory of what the server has imported for as long as nobody writes to it. The garbage collector
writes to every object that it looks at; frozen ones it leaves alone, which saves each worker about 28 MiB of its own.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
