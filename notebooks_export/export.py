"""Results files in, figures, notebook and page out."""

from dataclasses import dataclass
from pathlib import Path

from notebooks_export import notebook, page, style
from notebooks_export.figures import draw_all
from notebooks_export.folder import write_files
from notebooks_export.results import ExportError
from notebooks_export.study import open_study

NOTEBOOK, PAGE = "mobalab.ipynb", "index.html"


@dataclass(frozen=True)
class Export:
    """What was written: (path, what is to be said of it) in order, and {figure: why it was left out}."""

    written: list
    left_out: dict


def export(paths, out, **options):
    """Writes everything the results files allow into folder `out`. `options` are those of `open_study`.

    Nothing is written before all of it exists in memory, and then all files are (folder.py). Raises ExportError.
    """
    study, out = open_study(paths, **options), Path(out)
    drawn, left_out = draw_all(study)
    if not drawn:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise ExportError(f"{', '.join(study.labels)}: no figure can be drawn: {reasons}")
    files, pictures = [], []
    for name, figure, place, drawing in drawn:
        svg = style.svg_bytes(drawing.picture)
        files += [(f"{name}.png", style.png_bytes(drawing.picture), ""), (f"{name}.svg", svg, drawing.note)]
        pictures.append(page.Picture(name, _title(figure, place, drawn, study), figure.text, drawing.caption, svg))
    files.append((NOTEBOOK, notebook.build(study, [(figure, place) for _, figure, place, _ in drawn], out), ""))
    files.append((PAGE, page.build(study, pictures), ""))
    written = write_files(out, {name: content for name, content, _ in files})
    return Export(list(zip(written, [said for _, _, said in files])), left_out)


def _title(figure, place, drawn, study):
    several = sum(other is figure for _, other, _, _ in drawn) > 1
    return f"{figure.title}: {study.labels[place]}" if several else figure.title
