"""Finds and loads libmobalab_kernels.so and mirrors the structs of kernels/c_api/mobalab_kernels.h."""

import ctypes
import os
import sys
from pathlib import Path
from typing import NamedTuple

from ._errors import INVALID_ARGUMENT, Error, InvalidValue, invalid

FILE = "libmobalab_kernels.so"
ABI = 6
MESSAGE_SIZE = 1024

CPU, CPU_REFERENCE, CUDA = 0, 1, 2
CENTROIDS_FP32, CENTROIDS_CENTRED = 1, 2  # MobalabCentroids
BACKENDS = {"cpu": CPU, "cpu_reference": CPU_REFERENCE, "cuda": CUDA}
OPERATIONS = {
    "compute_centroids": 0,
    "route": 1,
    "attention_forward": 2,
    "moba_forward": 3,
    "attention_backward": 4,
    "key_conv_backward": 5,
    "key_conv_forward": 6,
    "route_with_centroids": 7,
    "key_conv_centroids": 8,
    "append_centroids": 9,
    "decode_route": 10,
    "decode_attention": 11,
    "moba_decode": 12,
}


CONTIGUOUS = -(2**63)  # MOBALAB_CONTIGUOUS


class Problem(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("batch", "seqlen_q", "seqlen_k", "heads_q", "heads_k", "head_dim", "block_size", "topk")
    ] + [
        ("dtype", ctypes.c_int32),
        ("centroids", ctypes.c_int32),
        ("scorer", ctypes.c_int32),
        ("keep_first", ctypes.c_int32),
        ("sub_blocks", ctypes.c_int64),
        ("scorer_seed", ctypes.c_uint64),
        ("cu_seqlens_q", ctypes.c_void_p),
        ("cu_seqlens_k", ctypes.c_void_p),
        ("total_q", ctypes.c_int64),
        ("total_k", ctypes.c_int64),
        ("total_blocks", ctypes.c_int64),
        ("scale", ctypes.c_double),  # 0: head_dim^-1/2
        ("head_dim_v", ctypes.c_int64),  # 0: head_dim
        ("non_causal", ctypes.c_int64),
    ]


class ScorerInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("parts", ctypes.c_int32), ("divides", ctypes.c_int32)]


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p)] + [
        (name, ctypes.c_int64) for name in ("stride_batch", "stride_token", "stride_head")
    ]


class Cache(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("lengths", "block_table")] + [
        (name, ctypes.c_int64) for name in ("pages", "page_size")
    ]


class Execution(ctypes.Structure):
    _fields_ = [
        ("backend", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_uint64),
    ]


class Scorer(NamedTuple):
    number: int  # MobalabScorer
    parts: int  # of the array of centroids
    divides: bool  # whether a block may have sub-blocks


_library = None
_scorers = None
_Message = ctypes.c_char * MESSAGE_SIZE
_message_size = ctypes.c_size_t(MESSAGE_SIZE)


def _candidates(path):
    if path is not None:
        return [Path(path)]
    if os.environ.get("MOBALAB_KERNELS_LIBRARY"):
        return [Path(os.environ["MOBALAB_KERNELS_LIBRARY"])]
    # A package that is installed editable has two folders: the sources and what was built.
    installed = [Path(folder) / FILE for folder in sys.modules[__package__].__path__]
    return [*installed, Path(__file__).resolve().parents[3] / "build" / "lib" / FILE]


def load(path=None):
    """Loads the shared library: `path`, else $MOBALAB_KERNELS_LIBRARY, else the one installed in this package, else
    that in build/lib of this clone."""
    global _library, _scorers
    if _library is not None and path is None:
        return _library
    candidates = _candidates(path)
    found = next((c for c in candidates if c.exists()), None)
    if found is None:
        raise FileNotFoundError(
            f"{FILE} not found (looked at {', '.join(map(str, candidates))}); pip install the project, build its "
            "target mobalab_kernels_c, or set MOBALAB_KERNELS_LIBRARY"
        )
    library = ctypes.CDLL(str(found))
    if not hasattr(library, "mobalab_abi"):
        raise Error(
            INVALID_ARGUMENT,
            f"{found} is another library: must be {FILE}; nearest valid choice: the one in build/lib",
        )
    if library.mobalab_abi() != ABI:
        raise Error(
            INVALID_ARGUMENT,
            f"{found} has ABI {library.mobalab_abi()}: must be {ABI}, that of this module; nearest "
            "valid choice: rebuild the library",
        )
    _library, _scorers = library, None
    return library


def abi():
    """The version of the C interface of the loaded library."""
    return load().mobalab_abi()


def call(name, *arguments):
    """Calls one C function, appends the message buffer and raises Error unless it answers MOBALAB_OK."""
    message = _Message()
    code = getattr(load(), "mobalab_" + name)(*arguments, message, _message_size)
    if code != 0:
        kind = InvalidValue if code == INVALID_ARGUMENT else Error
        raise kind(code, message.value.decode("utf-8", "replace"))


def scorers():
    """{name: Scorer} of the library, in the order of their numbers."""
    global _scorers
    if _scorers is None:
        found, info = {}, ScorerInfo()
        try:
            while True:
                call("scorer_info", ctypes.c_int32(len(found)), ctypes.byref(info))
                found[info.name.decode()] = Scorer(len(found), info.parts, bool(info.divides))
        except InvalidValue:  # there are no more
            _scorers = found
    return _scorers


def backend_available(backend):
    """None when the backend ("cpu", "cpu_reference", "cuda") runs here, otherwise the reason why not."""
    if backend not in BACKENDS:
        raise invalid("backend", f"= {backend!r}", f"one of {', '.join(BACKENDS)}", "cpu")
    try:
        call("backend_available", ctypes.c_int32(BACKENDS[backend]))
    except Error as error:
        return str(error)
    return None


def workspace_size(operation, problem, backend):
    size = ctypes.c_uint64()
    call(
        "workspace_size",
        ctypes.c_int32(OPERATIONS[operation]),
        ctypes.byref(problem),
        ctypes.c_int32(backend),
        ctypes.byref(size),
    )
    return size.value


def execute(operation, problem, threads, adapter, like, arguments):
    """Calls the C function of an operation with an Execution for arrays as `like`. Workspace is torch's or NumPy's;
    torch's allocator knows the order of the stream, so it may be let go as soon as the kernels are enqueued."""
    execution = Execution()
    execution.backend = CUDA if adapter.is_cuda(like) else CPU
    execution.threads = threads
    execution.stream = adapter.stream(like)
    size = workspace_size(operation, problem, CUDA) if execution.backend == CUDA else 0  # the others need none
    workspace = adapter.empty(like, (size,), "uint8") if size > 0 else None
    execution.workspace = None if workspace is None else adapter.pointer(workspace)
    execution.workspace_bytes = size
    call(operation, ctypes.byref(problem), *arguments, ctypes.byref(execution))
