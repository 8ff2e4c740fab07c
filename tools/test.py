"""Tests a checkpoint with the flags of the published system.

Example:
    python tools/test.py CONFIG CHECKPOINT --dump result.pkl
"""

import sys

from omnisource.import_path import leave_out_current_folder

leave_out_current_folder()  # before anything is imported that could be a file there
from omnisource.cli.mmaction2 import test_main  # noqa: E402

if __name__ == "__main__":
    sys.exit(test_main())
