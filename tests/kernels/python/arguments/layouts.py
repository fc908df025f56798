"""Ways an array can lie in memory: each takes a framework and float64 values and returns a view."""

import numpy as np

JUNK = 7e3  # between the elements: whoever reads a stride wrongly meets it


def _padded(values, axis, before, after):
    widths = [(before, after) if a == axis else (0, 0) for a in range(values.ndim)]
    return np.pad(values, widths, constant_values=JUNK)


def _spread(values, axis):
    return np.stack([values, np.full(values.shape, JUNK)], axis=axis + 1).reshape(
        *values.shape[:axis], 2 * values.shape[axis], *values.shape[axis + 1 :]
    )


def _at(axis, index):
    return (slice(None),) * axis + (index,)


def expanded(*axes):
    def layout(fw, values):
        one = values[tuple(slice(0, 1) if a in axes else slice(None) for a in range(values.ndim))]
        return fw.expand(fw.array(one), values.shape)

    return layout


def permuted(*axes):
    def layout(fw, values):
        return fw.permute(fw.array(values.transpose(axes)), [axes.index(a) for a in range(values.ndim)])

    return layout


def every_other(axis):
    def layout(fw, values):
        return fw.array(_spread(values, axis))[_at(axis, slice(None, None, 2))]

    return layout


def slice_of(axis, before, after):
    def layout(fw, values):
        return fw.array(_padded(values, axis, before, after))[_at(axis, slice(before, before + values.shape[axis]))]

    return layout


def overlapping(fw, values):
    """Windows over one long row: head h of token t is head 0 of token t + h."""
    dim = values.shape[-1]
    strides = [dim] * (values.ndim - 1) + [1]
    length = sum((n - 1) * s for n, s in zip(values.shape, strides)) + 1
    flat = fw.array(np.resize(values.ravel(), length))
    return fw.windows(flat, values.shape, strides)


def contiguous(fw, values):
    return fw.array(values)


# NumPy only


def reversed_along(axis):
    def layout(fw, values):
        return np.flip(fw.array(np.flip(values, axis).copy()), axis)

    return layout


def read_only(fw, values):
    array = fw.array(values)
    array.flags.writeable = False
    return array


def _field(fw, values, gap):
    """A subarray field of a structured array, `gap` bytes behind every row."""
    kind = np.dtype([("x", fw.dtype, values.shape[-1:]), ("gap", "u1", (gap,))])
    records = np.zeros(values.shape[:-1], dtype=kind)
    records["x"] = values
    return records["x"]


def field_of_divisible_stride(fw, values):
    return _field(fw, values, 2 * np.dtype(fw.dtype).itemsize)


def field_of_odd_stride(fw, values):
    return _field(fw, values, 1)


def misaligned(fw, values):
    array = fw.array(values)
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), dtype=np.uint8)
    return raw[1:].view(array.dtype).reshape(values.shape)


def foreign_byte_order(fw, values):
    return fw.array(values).astype(np.dtype(fw.dtype).newbyteorder())


def masked(fw, values):
    return np.ma.masked_array(fw.array(values), mask=values > 0)


# torch only


def negated_lazily(fw, values):
    import torch

    return torch._neg_view(fw.array(-values))


def sparse(fw, values):
    return fw.array(values).to_sparse()


def on_meta(fw, values):
    return fw.array(values).to("meta")


def behind_one_element(fw, values):
    """Rows that start 2 bytes behind a multiple of 16."""
    return fw.array(np.concatenate([[JUNK], values.ravel()]))[1:].reshape(values.shape)
