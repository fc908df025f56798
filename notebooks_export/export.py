"""Results file in, figures, notebook and page out."""

from pathlib import Path

from notebooks_export import notebook, page, style
from notebooks_export.figures import FIGURES
from notebooks_export.folder import write_files
from notebooks_export.results import open_results
from notebooks_export.slices import NoData

NOTEBOOK, PAGE = "mobalab.ipynb", "index.html"


def export(results_path, out):
    """Writes everything the file allows into folder `out`.

    Returns the paths written and {figure name: why it was left out}. Nothing is written before all of it exists in
    memory, and then all files are (folder.py). Raises ExportError.
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
    return write_files(out, files), left_out
