"""Number formats on float64 arrays: rounding to nearest even, and the distance of neighbouring numbers."""

from typing import NamedTuple

import numpy as np


class Format(NamedTuple):
    bits: int  # of the significand, the hidden one included
    smallest: int  # log2 of the smallest positive (subnormal) number
    largest: float


FORMATS = {
    "float32": Format(24, -149, float(np.finfo(np.float32).max)),
    "bfloat16": Format(8, -133, 2.0**128 - 2.0**120),
    "float16": Format(11, -24, 65504.0),
}

# Relative Frobenius errors that out and gradients may have against float64, for each format of the tensors; the
# same as tests/kernels/conformance asks of every backend.
FORWARD_ERROR = {"float32": 2e-6, "bfloat16": 4e-3, "float16": 6e-4}
GRADIENT_ERROR = {"float32": 1e-5, "bfloat16": 1.2e-2, "float16": 1.8e-3}


def ulp(values, name):
    """Distance of the numbers of a format around each value (of the binade that holds it), float64."""
    _, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return np.ldexp(1.0, np.maximum(exponent - FORMATS[name].bits, FORMATS[name].smallest))


def round_to(values, name):
    """The nearest numbers of a format, ties to even, as float64; NaN and infinity stay, what overflows is infinite."""
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    step = ulp(np.where(finite, values, 1.0), name)
    rounded = np.where(finite, np.rint(np.where(finite, values, 0.0) / step) * step, values)
    too_large = np.abs(rounded) > FORMATS[name].largest
    return np.where(too_large & finite, np.copysign(np.inf, rounded), rounded)
