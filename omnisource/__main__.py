"""`python -m omnisource`: the same as the command `omnisource`."""

from __future__ import annotations

import sys

from omnisource.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
