"""A cache of Hugging Face transformers in which keys stay where they are."""

import functools

import torch
import transformers

from . import _arguments, _kept_summaries, _torch_arrays
from ._errors import invalid

try:
    from transformers.cache_utils import Cache, DynamicLayer
except ImportError:
    raise ImportError(
        f"transformers {transformers.__version__}: must be 4.56 or later, as earlier ones attend across packed texts; "
        "nearest valid choice: 4.56.0"
    ) from None

_ROOM = 256  # tokens, at least, for which a cache that has grown too small has more room


class SummarisedCache(Cache):
    """A cache for decoding with the attention that hugging_face.register() makes known: past_key_values of a model's
    calls and of generate().

        cache = hugging_face.SummarisedCache()
        model.generate(**inputs, past_key_values=cache)

    transformers' own DynamicCache copies all keys and values at each step, so that nothing can be kept of them. Here they
    stay where they are, in memory that grows by a quarter when it is full (max_tokens: for which there is room from the
    start), and so do the summaries that attention looks at. It holds what a DynamicCache holds, and may be cropped,
    reordered, repeated, reset and copied like one; other attention functions take it as well. New tokens overwrite what a
    cropped cache held, for whoever still holds its tensors. Every layer keeps all of its tokens, and inference alone is
    served: keys that require grad are refused while autograd records.
    """

    def __init__(self, max_tokens=None):
        tokens = 0 if max_tokens is None else _arguments.positive("max_tokens", max_tokens)
        super().__init__(layer_class_to_replicate=functools.partial(_Layer, tokens))


class _Layer(DynamicLayer):
    """[batch, heads, tokens, head_dim] of keys and values, each the beginning of a tensor with more room."""

    def __init__(self, max_tokens=0):
        super().__init__()
        self._max_tokens = max_tokens
        self._rooms = {}  # {"keys": [batch, most tokens, heads, head_dim], "values": the same}
        self._owner = id(self)  # of the rooms: a copy of this object makes its own

    def lazy_initialization(self, key_states, value_states=None):
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states[:, :, :0]
        self.values = (key_states if value_states is None else value_states)[:, :, :0]
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        """Keys and values of all tokens, the new ones included."""
        _torch_arrays.refuse_gradients("SummarisedCache", {"k": key_states, "v": value_states})
        if self.get_seq_length() == 0:
            self.lazy_initialization(key_states, value_states)
        if self._owner != id(self):
            self._owner, self._rooms = id(self), {}
        self.keys = self._put("keys", self.keys, key_states)
        self.values = self._put("values", self.values, value_states)
        return self.keys, self.values

    def reorder_cache(self, beam_idx):
        self._select(beam_idx)

    def batch_repeat_interleave(self, repeats):
        if self.get_seq_length() > 0:
            self._select(torch.arange(self.keys.shape[0]).repeat_interleave(repeats))

    def batch_select_indices(self, indices):
        if self.get_seq_length() > 0:
            self._select(torch.arange(self.keys.shape[0], device=indices.device)[indices])

    def _select(self, entries):
        """Other entries of the batch, with the summaries of them."""
        tokens = self.get_seq_length()
        if tokens == 0:
            return
        for name in ("keys", "values"):
            held, room = getattr(self, name), self._rooms.get(name)
            if room is None or not _begins(room, held):
                room = self._rooms[name] = self._new_room(held, tokens)
                room[:, :tokens] = held.transpose(1, 2)
            with torch.inference_mode(False):
                other = self._rooms[name] = room.index_select(0, entries.to(room.device))
            _kept_summaries.follow(room, entries, other)
            setattr(self, name, other[:, :tokens].transpose(1, 2))

    def _put(self, name, held, new):
        """The tokens of one tensor that are held, with new ones behind them."""
        for what in ("shape", "dtype", "device"):
            got, wanted = getattr(new, what), getattr(held, what)
            if what == "shape":
                got, wanted = tuple(got), (*wanted[:2], got[2], wanted[3])
            if got != wanted:
                raise invalid(name, f"of new tokens have {what} {got}", f"like those of the cache, {wanted}", wanted)
        before = held.shape[2]
        end = before + new.shape[2]
        room = self._rooms.get(name)
        if room is None or end > room.shape[1] or not _begins(room, held):
            room = self._rooms[name] = self._new_room(held, end)
            room[:, :before] = held.transpose(1, 2)
        room[:, before:end] = new.transpose(1, 2)
        return room[:, :end].transpose(1, 2)

    def _new_room(self, like, tokens):
        batch, heads, _, head_dim = like.shape
        most = max(tokens + max(tokens // 4, _ROOM), self._max_tokens)
        with torch.inference_mode(False):  # whose tensors do not count how often they are written
            return torch.empty((batch, most, heads, head_dim), dtype=like.dtype, device=like.device)


def _begins(room, held):
    """Whether what is held is the beginning of the room: not so after it was replaced, as by a reordering."""
    rows = held.transpose(1, 2)
    same_shape = rows.shape[:1] + rows.shape[2:] == room.shape[:1] + room.shape[2:]
    return same_shape and rows.data_ptr() == room.data_ptr() and rows.stride() == room.stride()
