"""Cases for property tests of what is decoded, and a figure that draws fast."""

from functools import cache

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from blemore.labels import LABELS
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds
from blemore_baselines.results import plots


@cache
def small_picture():
    return plots.picture(plots.figure(1, 1)[0])


@st.composite
def cases(draw, most=12):
    """Probabilities (N, 6) with ties, and labels (N,): for most clips one of the pair that ranks first, so that
    relations matter.
    """
    n = draw(st.integers(1, most))
    scores = draw(arrays.arrays(float, (n, 6), elements=st.sampled_from([1.0, 2, 4, 8, 16, 32])))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    equal = decode_thresholds(probabilities, Thresholds(0, 2))  # the pair at 50/50, or a single where neutral is of it
    shift = draw(arrays.arrays(int, n, elements=st.integers(-1, 2)))
    other = draw(arrays.arrays(int, n, elements=st.integers(0, len(LABELS) - 1)))
    return probabilities, np.where(shift == 2, other, np.where(equal >= 6, equal + shift, equal))
