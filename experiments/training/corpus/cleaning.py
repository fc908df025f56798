"""Plain text of a file of a package: decompressed, without markup of HTML, without what is data rather than text."""

import gzip
import re
import zlib

LETTERS = re.compile(r"[^\W\d_]")
LEAST_LETTERS = 0.4  # of what is no space: below it a file is a table of numbers
LEAST_CHARACTERS = 200


def clean_text(name, data):
    """(text, None), or (None, why the file is left out). name: of the file; its ending says how it is stored."""
    if name.endswith(".gz"):
        try:
            data, name = gzip.decompress(data), name[:-3]
        except (OSError, EOFError, zlib.error):
            return None, "damaged"
    if name.endswith(".html"):
        text = _html_text(data)
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None, "not UTF-8"
    text = _tidied(text)
    if len(text) < LEAST_CHARACTERS:
        return None, "short"
    solid = len(re.sub(r"\s", "", text))
    if len(LETTERS.findall(text)) < LEAST_LETTERS * solid:
        return None, "data"
    return text, None


def _html_text(data):
    from lxml import etree, html  # here, so that reading a finished corpus needs no lxml

    try:
        tree = html.document_fromstring(data)
    except etree.ParserError:  # an empty page
        return ""
    etree.strip_elements(tree, "script", "style", "head", "nav", etree.Comment, with_tail=False)
    return tree.text_content()


def _tidied(text):
    """Line feeds alone, no control characters (info files part nodes by them), no spaces at ends of lines, and at most
    one empty line in a row."""
    text = re.sub(r"\r\n?", "\n", text)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)
    text = re.sub(r"[^\S\n]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
