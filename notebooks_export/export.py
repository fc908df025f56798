"""Results file in, figures, notebook and page out."""

import os
import tempfile
from pathlib import Path

from notebooks_export import notebook, page, style
from notebooks_export.figures import FIGURES
from notebooks_export.results import ExportError, open_results
from notebooks_export.slices import NoData

NOTEBOOK, PAGE = "mobalab.ipynb", "index.html"


def export(results_path, out):
    """Writes everything the file allows into folder `out`.

    Returns the paths written and {figure name: why it was left out}. Nothing is written before all of it exists in
    memory, and each file is replaced in one step. Raises ExportError.
    """
    results, out = open_results(results_path), Path(out)
    files, drawn, left_out = {}, [], {}
    for figure in FIGURES:
        try:
            picture = figure.draw(results)
        except NoData as reason:
            left_out[figure.name] = str(reason)
            continue
        svg = style.svg_bytes(picture)
        files[f"{figure.name}.png"], files[f"{figure.name}.svg"] = style.png_bytes(picture), svg
        drawn.append((figure, svg))
    files[NOTEBOOK] = notebook.build(results, [figure for figure, _ in drawn], out)
    files[PAGE] = page.build(results, drawn)
    return [_write(out / name, content) for name, content in files.items()], left_out


def _write(path, content):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror}; name another folder with --out") from error
    return path


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
