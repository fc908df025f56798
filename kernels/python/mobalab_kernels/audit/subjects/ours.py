"""The kernels of this package, on the backend of the tensors' device."""

from ... import _arguments, _library
from ... import _functions as functions
from ..._errors import invalid


def _boundaries(cu_seqlens):
    return {} if cu_seqlens is None else {"cu_seqlens_q": cu_seqlens, "cu_seqlens_k": cu_seqlens}


def _batched(cu_seqlens, *arrays):
    """[tokens, ...] as the functions take them: one batch of it, where there are no boundaries."""
    return arrays if cu_seqlens is not None else tuple(array[None] for array in arrays)


class Target:
    ties = "higher"
    centroids = "input"
    options = {}  # of the functions that route

    def __init__(self, device):
        _library.load()  # what is missing is said before the first check
        self.backend = device.partition(":")[0]
        reason = "no backend is for it"
        if self.backend in ("cpu", "cuda"):
            reason = _library.backend_available(self.backend)
        if reason is not None:
            raise invalid("device", f"= {device} ({reason})", "one that the kernels run on here", "cpu")

    def check_settings(self, settings):
        """Raises what the library says of a problem that the backend does not take."""
        s = settings
        problem = _library.Problem(batch=1, seqlen_q=s.seq_len, seqlen_k=s.seq_len, heads_q=s.heads, heads_k=s.heads_k)
        problem.head_dim, problem.block_size, problem.topk, problem.sub_blocks = s.head_dim, s.block_size, s.topk, 1
        problem.dtype = _arguments.DTYPES[s.dtype]
        problem.centroids = _arguments.kept_as(fp32_centroids=False, **{"centred_centroids": False, **self.options})
        for operation in ("moba_forward", "attention_backward"):
            _library.workspace_size(operation, problem, _library.BACKENDS[self.backend])

    def summaries(self, k, block_size):
        return functions.compute_centroids(k[None], block_size)

    def route(self, q, k, block_size, topk, cu_seqlens=None):
        return functions.route(
            *_batched(cu_seqlens, q, k), block_size, topk, **_boundaries(cu_seqlens), **self.options
        )

    def attention(self, q, k, v, block_size, topk, cu_seqlens=None):
        out, lse, _ = functions.moba_forward(
            *_batched(cu_seqlens, q, k, v), block_size, topk, **_boundaries(cu_seqlens), **self.options
        )
        return out.reshape(q.shape), lse

    def gradients(self, q, k, v, d_out, block_size, topk):
        q, k, v, d_out = _batched(None, q, k, v, d_out)
        out, lse, selection = functions.moba_forward(q, k, v, block_size, topk, **self.options)
        found = functions.attention_backward(q, k, v, out, d_out, lse, selection, block_size, topk)
        return tuple(gradient[0] for gradient in found)
