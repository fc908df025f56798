"""What the checks and calls need to know of an array, read from it once."""

from typing import NamedTuple


class View(NamedTuple):
    shape: tuple
    steps: tuple  # strides in elements; of no meaning along extents of at most 1
    pointer: int
    dtype: str  # "float32"
    itemsize: int
    device: object
