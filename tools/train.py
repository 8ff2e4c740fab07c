"""Trains a recipe with the flags of the published system.

Example:
    python tools/train.py configs/recognition/omnisource/slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb.py \
        --seed=0 --deterministic
"""

import sys

from omnisource.cli.mmaction2 import train_main

if __name__ == "__main__":
    sys.exit(train_main())
