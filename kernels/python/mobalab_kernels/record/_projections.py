"""Queries and keys before their rotation, from hooks on the projections of an attention module."""

from .._errors import invalid
from ._rope import Rotation, layout_of

# Children whose outputs are queries and keys, the last ones before the rotation first (a norm follows its projection).
SEPARATE = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"), ("q_proj", "k_proj"))
FUSED = ("query_key_value", "qkv_proj")


class Projections:
    """Keeps what an attention module's projections gave in its last call, and its cos and sin."""

    def __init__(self, module):
        self.outputs, self.rotation = {}, None
        names = [name for pair in SEPARATE for name in pair] + list(FUSED)
        children = {name: child for name, child in module.named_children() if name in names}
        self.handles = [child.register_forward_hook(self._keep(name)) for name, child in children.items()]
        self.handles.append(module.register_forward_pre_hook(self._keep_rotation, with_kwargs=True))

    def remove(self):
        for handle in self.handles:
            handle.remove()

    def before(self, q, k):
        """(q, k, Rotation) before the rotation that gave these q and k [token, head, dim], None if none is found."""
        outputs, rotation = self.outputs, self.rotation
        self.outputs, self.rotation = {}, None  # memory of one layer at a time
        if rotation is None:
            return None
        cos, sin = rotation
        for pre_q, pre_k in _candidates(outputs, q, k):
            layouts = {layout_of(pre_q, q, cos, sin), layout_of(pre_k, k, cos, sin)}
            if len(layouts) == 1 and None not in layouts:
                return pre_q, pre_k, Rotation(layouts.pop(), cos.shape[-1], tuple(cos[1].tolist()))
        return None

    def _keep(self, name):
        def keep(module, arguments, output):
            self.outputs[name] = output.detach()

        return keep

    def _keep_rotation(self, module, arguments, named):
        pair = named.get("position_embeddings")
        if isinstance(pair, (tuple, list)) and len(pair) == 2:
            # [batch, token, rope_dim], or without the batch.
            self.rotation = [x.detach().reshape(-1, x.shape[-1]) for x in pair]


def _candidates(outputs, q, k):
    (tokens, heads, dim), key_heads = q.shape, k.shape[1]
    for names in SEPARATE:
        if all(name in outputs for name in names):
            yield from zip(*(_views(outputs[n], x.shape) for n, x in zip(names, (q, k))))
    for name in FUSED:
        if name in outputs:
            rows = outputs[name].reshape(tokens, -1)
            if rows.shape[1] == 3 * heads * dim:  # per head: its query, its key, its value
                parts = rows.view(tokens, heads, 3, dim)
                yield parts[:, :, 0], parts[:, :, 1]
            if rows.shape[1] >= (heads + key_heads) * dim:  # all queries, all keys, all values
                both = rows[:, : (heads + key_heads) * dim].view(tokens, heads + key_heads, dim)
                yield both[:, :heads], both[:, heads:]


def _views(output, shape):
    """The readings of a projection's output as [token, head, dim]: tokens first, or heads first."""
    tokens, heads, dim = shape
    if output.numel() != tokens * heads * dim:
        return
    yield output.reshape(shape)
    yield output.reshape(heads, tokens, dim).transpose(0, 1)


def not_found(layer):
    known = " or ".join("/".join(names) for names in (*SEPARATE, FUSED))
    return invalid(
        "rope",
        f"pre: layer {layer} has no queries and keys whose rotation gives those of its attention",
        f"post, unless the attention module has {known} and is given its cos and sin",
        "post",
    )
