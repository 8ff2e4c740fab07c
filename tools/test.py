"""Tests a checkpoint with the flags of the published system.

Example:
    python tools/test.py CONFIG CHECKPOINT --dump result.pkl
"""

import sys

from omnisource.cli.mmaction2 import test_main

if __name__ == "__main__":
    sys.exit(test_main())
