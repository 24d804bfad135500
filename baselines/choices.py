"""What a user may choose by name, apart from encoders; light enough for the command line to read at once."""

from __future__ import annotations

from typing import Optional

HEADS: dict[str, Optional[int]] = {"linear": None, "mlp256": 256, "mlp512": 512}  # the hidden layer's width
METHODS = ("aggregate", "subsample")
PRESET_NAMES = ("published", "fast")  # crossval.PRESETS
TEST_PROTOCOLS = ("pooled", "retrain", "best-fold")  # train.py
