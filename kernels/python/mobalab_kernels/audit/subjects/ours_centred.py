"""The kernels of this package with centred centroids: the mean of block 0 is subtracted before rounding."""

from ... import _functions as functions
from . import ours


class Target(ours.Target):
    centroids = "centred"
    options = {"centred_centroids": True}

    def summaries(self, k, block_size):
        return functions.compute_centroids(k[None], block_size, centred=True)
