"""python3 -m mobalab_kernels.record MODEL TEXT TRACE --about "name and licence of the text"."""

import argparse
import sys
from pathlib import Path

from .._errors import INVALID_ARGUMENT, Error, invalid
from ._arrays import DTYPES
from ._needles import read_needles
from ._trace_file import check_path


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Error(INVALID_ARGUMENT, f"{message}; see --help")


def _numbers(text):
    """0,5,10-12 as a list."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            begin, end = int(first), int(last if dash else first)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers and ranges such as 0,5,10-12") from None
        if not 0 <= begin <= end < 100000:
            raise argparse.ArgumentTypeError(f"{part!r} in {text!r} is no ascending range of numbers from 0 on")
        found += range(begin, end + 1)
    return found


def _parser():
    parser = _Parser(
        prog="python3 -m mobalab_kernels.record",
        description="Writes the queries, keys and values of a model's attention on a text as a trace.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        help="a name or folder of transformers, a .gguf file, or package:NAME for the .gguf file"
        " of an installed Python package",
    )
    parser.add_argument("text", help="a UTF-8 file")
    parser.add_argument("trace", help="*.safetensors to write; replaced as a whole if it exists")
    parser.add_argument("--about", required=True, help="name and licence of the text, kept in the trace")
    parser.add_argument("--name", help="of the model, in the trace; without it the name it was loaded by")
    parser.add_argument("--layers", type=_numbers, help="numbers and ranges, such as 0,5,10-12; without it all")
    parser.add_argument("--heads", type=_numbers, help="whole groups of query heads that share a key head")
    parser.add_argument("--rope", choices=("post", "pre"), default="post", help="after rotation (default) or before")
    parser.add_argument("--tokens", type=int, help="the first so many of the text; without it all")
    parser.add_argument("--q-start", type=int, help="first row of q that is kept; without it half the tokens")
    parser.add_argument("--q-rows", type=int, help="rows of q that are kept; without it to the end")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16", help="of the trace (default: bf16)")
    parser.add_argument(
        "--needles",
        help='JSON: [{"name": ..., "fact": [begin, end], "answer": [begin, end], "asked":'
        " [[begin, end], ...]}, ...], spans of characters of the text",
    )
    parser.add_argument("--device", default="cpu", help="on which torch runs the model (default: cpu)")
    parser.add_argument(
        "--compute-dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="in which it runs (default: float32)",
    )
    parser.add_argument("--threads", type=int, help="of torch on the CPU; without it all")
    return parser


def _text(path):
    try:
        return Path(path).read_bytes().decode()  # as it is: spans count the characters of CRLF too
    except OSError as failed:
        raise invalid("text", path, f"a file that can be read ({failed.strerror})", "its full path") from failed
    except UnicodeDecodeError as failed:
        raise invalid("text", path, f"UTF-8 (byte {failed.start} is not)", "iconv -t UTF-8") from failed


def _run(arguments):
    given = _parser().parse_args(arguments)
    check_path(given.trace)  # before the model takes its time
    text = _text(given.text)
    needles = read_needles(given.needles) if given.needles else []
    if given.threads is not None and given.threads < 1:
        raise invalid("--threads", given.threads, "at least 1", "1")
    try:
        import torch
        from transformers.utils import logging

        from ._hugging_face import load_model, record
    except ImportError as failed:
        install = "python3 -m pip install torch 'transformers>=4.53'"
        raise Error(INVALID_ARGUMENT, f"recording needs torch and transformers ({failed}): {install}") from failed
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    model, tokenizer, found = load_model(given.model, given.device, given.compute_dtype)
    if given.name is not None:
        found["model"] = given.name
    record(
        model,
        text,
        given.trace,
        about=given.about,
        tokenizer=tokenizer,
        layers=given.layers,
        heads=given.heads,
        rope=given.rope,
        dtype=given.dtype,
        tokens=given.tokens,
        q_start=given.q_start,
        q_rows=given.q_rows,
        needles=needles,
        metadata=found,
    )
    size = Path(given.trace).stat().st_size
    print(f"{given.trace}: {size / 1e6:.1f} MB")


def main(arguments=None):
    try:
        _run(arguments)
    except Error as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
