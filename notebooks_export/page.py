"""One self-contained HTML page: verdict, figures, where the numbers come from, what the intervals mean."""

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2

from notebooks_export.figures import agreement

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Picture:
    """A figure of the page: `text` is what it shows, `caption` which points."""

    name: str
    title: str
    text: str
    caption: str
    svg: bytes


def build(study, pictures):
    """Bytes of the page, its pictures in the order to show."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters["short"] = lambda value: f"{value:.3g}"
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        files=[_file(label, results) for label, results in zip(study.labels, study.files)], pictures=pictures,
        options=study.view.options())
    return page.encode()


def _file(label, results):
    return dict(name=label, provenance=results.provenance(),
                tables={name: len(table) for name, table in results.tables.items()},
                summary=agreement.summary(results), alpha=agreement.family_alpha(results), intervals=intervals(results))


def intervals(results):
    """What the file says about its interval ends: {column: definition}."""
    return {name: text for name, text in sorted(results.definitions.items()) if name.endswith(("_low", "_high"))}
