"""The summaries of a model's keys, kept from pass to pass where the keys stay in one tensor: attention of a few queries
then reads summaries and the blocks it attends to, and pools what has arrived.

What may be kept is decided by the tensor alone. Its identity says which cache it is, and torch's version counter how
often it was written: once since the last pass means by the cache itself, which put the keys of this pass's queries into
their places. Anything else (a reset, a reordering, another model's pass) is a new tensor or other writes, and all is
summarised again. A shorter cache begins again where its next keys are written.
"""

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from . import _arguments, _decode, _torch_arrays
from ._errors import UNSUPPORTED, Error

_MOST_ROWS = 16  # of queries; more of them read most blocks anyway, and tiles of queries share what they read

_known = WeakTensorKeyDictionary()  # {tensor that holds the keys of a layer: Kept}; entries die with the tensors


class Kept:
    """What is known of the keys in one tensor."""

    def __init__(self):
        self.version = 0
        self.tokens = None  # bool [batch, columns] on the host: which columns hold tokens; None: all do
        self.summarised = 0  # columns, the first ones, whose tokens the summaries are up to date with
        self.made_for = None  # _made_for()
        self.centroids = None

    def see(self, version, first, end, places):
        """A pass whose queries stand at columns [first, end), after their keys were written there."""
        writes = version - self.version
        same = min(self.summarised, (end, first)[writes] if writes in (0, 1) else 0)
        self.summarised = same if _same_tokens(self.tokens, places, same) else 0
        self.version, self.tokens = version, None if places is None else places.tokens

    def of_entries(self, k, entries):
        """The same of k, [batch, columns, heads, head_dim], which has these entries of the batch, in this order."""
        kept = Kept()
        kept.version, kept.summarised = k._version, self.summarised
        kept.tokens = None if self.tokens is None else self.tokens[entries.cpu()]
        if self.centroids is not None:
            options, (batch, *_) = self.made_for[0], self.made_for[1]
            kept.made_for = _made_for(options, k)
            rows, *row = self.centroids.shape
            of_batch = self.centroids.view(batch, rows // batch, *row)
            kept.centroids = of_batch.index_select(0, entries.to(k.device)).flatten(0, 1)
        return kept

    def attend(self, q, k, v, end, places, options):
        """Attention of q, [batch, rows, heads_q, head_dim], over the columns of k and v before `end`."""
        scorer, scale = options["scorer"], options["scale"]
        centred, fp32 = options["centred_centroids"], options["fp32_centroids"]
        made_for = _made_for((options["block_size"], scorer, centred, fp32), k)
        if made_for != self.made_for:
            shape = _decode.centroids_shape(*k.shape, options["block_size"], scorer)
            dtype = torch.float32 if fp32 else k.dtype
            self.centroids = torch.empty(shape, dtype=dtype, device=k.device)
            self.made_for, self.summarised = made_for, 0
        table = None
        if places is None:
            lengths = torch.full(k.shape[:1], end, dtype=torch.int32, device=k.device)
        else:
            lengths, table = places.lengths, places.table(_entry_step(k), k.shape[1])
            k, v = _as_pages(k), _as_pages(v)
        out, _, _ = _decode.moba_decode(
            _torch_arrays.readable(q),
            k,
            v,
            self.centroids,
            lengths,
            options["block_size"],
            min(options["topk"], -(-end // options["block_size"])),  # not of what may come
            appended=end - self.summarised,
            block_table=table,
            centred_centroids=centred,
            scorer=scorer,
            scorer_seed=options["scorer_seed"],
            keep_first=options["keep_first"],
            scale=scale,
        )
        self.summarised = end
        return out


def _made_for(options, k):
    """What summaries hang on, beside the contents of k; its shape stands second."""
    return options, k.shape, k.dtype, k.device, k.data_ptr()


def attend(q, key, value, first, end, places, options):
    """Attention like q in the width of value where summaries of the keys are kept, otherwise None. key, value: [batch,
    heads_k, columns, head_dim] of a cache in which the queries stand at columns [first, end). places: which columns
    before `end` hold tokens (lengths and table() of them), None: all do."""
    if key.is_inference() or not _torch_arrays.has_memory(key):  # without a version; inside transforms of torch.func
        return None
    room, k = _room_of(key)
    if room is None:
        return None
    known = room in _known
    kept = _known.setdefault(room, Kept())
    kept.see(key._version, first, end, places)
    if not known or not _serves(q, key, value, first, end, places):
        return None
    _, v = _room_of(value)
    if k.shape[:3] != v.shape[:3]:
        k, v = key.transpose(1, 2), value.transpose(1, 2)
    if places is not None and not _has_pages(k, v):
        return None
    if any(_torch_arrays.readable(tensor) is not tensor for tensor in (k, v)):
        return None
    try:
        return kept.attend(q, k, v, end, places, options)
    except Error as error:
        if error.code != UNSUPPORTED:  # as a cache may grow beyond what a step takes
            raise
        return None


def follow(room, entries, other):
    """What is kept of a room is kept of another one, which has these entries of its batch. (Nothing where the room has
    been written since.)"""
    kept = _known.get(room)
    if kept is not None and kept.version == room._version:
        _known[other] = kept.of_entries(other, entries)


def _serves(q, key, value, first, end, places):
    """Whether a step is what these queries need."""
    if end - first > _MOST_ROWS or torch.is_autocast_enabled(q.device.type):
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, key, value)):
        return False
    return places is None or places.all_tokens(first, end)


def _room_of(tensor):
    """(the tensor that it is, or the beginning of; [batch, columns, heads, head_dim] of all columns which that has).
    None and its own columns where it is a part of something else, which may hold the keys of other layers as well."""
    rows, base = tensor.transpose(1, 2), tensor._base
    if base is None:
        return tensor, rows
    begins = base.dim() == 4 and base.data_ptr() == rows.data_ptr() and base.stride() == rows.stride()
    same = begins and base.shape[:1] + base.shape[2:] == rows.shape[:1] + rows.shape[2:]
    return (base, base) if same else (None, rows)


def _same_tokens(before, places, columns):
    """Whether the first columns hold tokens where they did before."""
    if places is not None:
        return places.begins_like(before, columns)
    return before is None or bool(before[:, :columns].all())


def _entry_step(tensor):
    """From an entry of the batch to the next, in columns."""
    return tensor.stride(0) // tensor.stride(1) if tensor.shape[0] > 1 else 0


def _has_pages(*tensors):
    """Whether every column of every entry is a page of one token of the same number in both."""
    step = _entry_step(tensors[0])
    plain = all(t.stride(1) > 0 and (t.shape[0] == 1 or t.stride(0) == step * t.stride(1)) for t in tensors)
    return plain and step * (tensors[0].shape[0] - 1) + tensors[0].shape[1] <= _arguments.MAX_EXTENT


def _as_pages(tensor):
    """[pages, 1, heads, head_dim] over the same memory."""
    batch, columns, heads, head_dim = tensor.shape
    pages = _entry_step(tensor) * (batch - 1) + columns
    _, column, head, channel = tensor.stride()
    return tensor.as_strided((pages, 1, heads, head_dim), (column, column, head, channel))
