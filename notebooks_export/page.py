"""One self-contained HTML page: verdict, figures, where the numbers come from, what the intervals mean."""

import base64
from pathlib import Path

import jinja2

from notebooks_export.figures import agreement

TEMPLATE = Path(__file__).with_name("page.html.j2")


def build(results, drawn):
    """Bytes of the page. `drawn` holds (FigureSpec, SVG bytes) in the order to show."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters["short"] = lambda value: f"{value:.3g}"
    figures = [dict(name=figure.name, title=figure.title, text=figure.text,
                    data=base64.b64encode(svg).decode("ascii")) for figure, svg in drawn]
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        file=results.shown_name, provenance=results.provenance(), figures=figures,
        tables={name: len(table) for name, table in results.tables.items()},
        summary=agreement.summary(results), alpha=agreement.family_alpha(results), intervals=intervals(results))
    return page.encode()


def intervals(results):
    """What the file says about its interval ends: {column: definition}."""
    return {name: text for name, text in sorted(results.definitions.items()) if name.endswith(("_low", "_high"))}
