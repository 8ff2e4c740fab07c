"""Trains a recipe with the flags of the published system.

Example:
    python tools/train.py configs/recognition/omnisource/slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py \
        --seed=0 --deterministic
"""

import sys

from omnisource.import_path import leave_out_current_folder

leave_out_current_folder()  # before anything is imported that could be a file there
from omnisource.cli.mmaction2 import train_main  # noqa: E402

if __name__ == "__main__":
    sys.exit(train_main())
