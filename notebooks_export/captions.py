"""Sentences about a layout: every value in them is read from the rows that are drawn."""

from notebooks_export.axes import RATIO, number
from notebooks_export.layout import POINT

MOST_LISTED = 8
"""Values of an axis that are listed; of more only the first and the last."""

BY_HEAD_AND_BLOCK = ("head_dim", "block_size")


def panel_title(layout, values, rows):
    """The panel's values in words, with those of the axes that go with them; for a picture."""
    return ", ".join(_spelled(layout, layout.panels, values, rows, "panels", math=True))


def colour_label(layout, value, rows, math=True):
    """The same for a colour; empty without a colour axis."""
    return ", ".join(_spelled(layout, [layout.colour], [value], rows, "colour", math)) if layout.colour else ""


def _spelled(layout, axes, values, rows, role, math):
    words = [axis.spell(value, math) for axis, value in zip(axes, values) if not _means_nothing(axis, rows)]
    for axis, by in layout.goes_with.items():
        if by == role and not _means_nothing(axis, rows) and rows[axis.name].nunique() == 1:
            words.append(axis.spell(rows[axis.name].iloc[0], math))
    return words


def _means_nothing(axis, rows):
    return bool(axis.unused_if) and axis.unused_if[0] in rows and (rows[axis.unused_if[0]] == axis.unused_if[1]).all()


def fixed(layout, study, math=False):
    """What all rows drawn have in common: `model sphere, N = 8K, k = 8`."""
    words = [axis.spell(layout.rows[axis.name].iloc[0], math) for axis in layout.constant()
             if axis.name != "file" or len(study.files) > 1]
    return ", ".join(words)


def count(layout, what="points"):
    """`48 of 1296 points`, or `all 48 points`."""
    shown, total = len(layout.rows), len(layout.points) + layout.repeats
    if shown == total:
        return f"all {total} {what}" if total > 1 else f"one {what.rstrip('s')}"
    return f"{shown} of {total} {what}"


def what_is_drawn(layout, study, what="points", along=None, table=None):
    """What stands where: x, colours, panels, what is fixed. `along` names the x of a figure that has its own, `table` the
    table whose rows --where counts, where `what` are no rows."""
    parts = [f"x is {along}" if along else _x_words(layout)]
    if layout.colour and len(layout.values(layout.colour)) > 1:
        parts.append(f"a colour for each {_role_words(layout, [layout.colour], 'colour')}")
    if layout.panels:
        parts.append(f"a panel for each {_role_words(layout, layout.panels, 'panels')}")
    held = fixed(layout, study)
    return (f"Drawn: {count(layout, what)}; {', '.join(parts)}" + (f"; fixed: {held}" if held else "") + "."
            + _with_x(layout) + selected(study, what, table))


def _x_words(layout):
    if layout.x == POINT:
        return "every point by itself"
    name = layout.x.symbol
    values = layout.values(layout.x)
    if layout.x.text:
        return f"x is {name} ({', '.join(map(str, values))})"
    return f"x is {name} = {number(values[0])}" if len(values) == 1 else (
        f"x is {name} from {number(values[0])} to {number(values[-1])}")


def _role_words(layout, axes, role):
    partners = [axis for axis, by in layout.goes_with.items() if by == role]
    words = [f"{axis.symbol} ({_listed(axis, layout.values(axis))})" for axis in axes]
    return " and ".join(words) + (f" with its {_and([axis.symbol for axis in partners])}" if partners else "")


def _with_x(layout):
    """Axes that vary along x, other than those x is made of."""
    if layout.x == POINT:
        return ""
    made_of = BY_HEAD_AND_BLOCK if layout.x == RATIO else ()
    varying = [axis for axis, by in layout.goes_with.items() if by in ("x", "all") and axis.name not in made_of]
    said = [f"{axis.symbol} goes with {'x' if layout.goes_with[axis] == 'x' else 'them'} "
            f"({_listed(axis, layout.values(axis))})" for axis in varying]
    return f" {_and(said)}.".replace("  ", " ") if said else ""


def selected(study, what="points", table=None):
    """What --where kept, as a sentence with a blank before it; empty without it."""
    if not study.view.where:
        return ""
    name = table or ("points" if what == "points" else "bench")
    what = f"rows of '{table}'" if table else what
    return f" --where '{study.view.where.strip()}' keeps {len(study.rows(name))} of {study.rows_before[name]} {what}."


def what_is_left_out(layout, what="points"):
    """The values no row drawn has, and how to see them; empty when everything is drawn."""
    missing = [f"{axis.symbol} = {_listed(axis, values)}" for axis, values in layout.left_out().items()]
    hidden = len(layout.points) - len(layout.rows)
    sentences = []
    if hidden:
        values = f": {'; '.join(missing)}" if missing else ""
        sentences.append(f"Left out: {hidden} of {len(layout.points) + layout.repeats} {what}{values} (choose with --where, "
                         "--x, --colour, --panels).")
    if layout.repeats:
        sentences.append(f"Drawn once: {layout.repeats} {what} that differ from another only in what means nothing there "
                         "(mu_cluster of a needle alone, the goal of one needle, the tap of no convolution).")
    return " ".join(sentences)


def _listed(axis, values):
    words = [str(value) if axis.text else number(value) for value in values]
    if len(words) > MOST_LISTED:
        return f"{words[0]} to {words[-1]}, {len(words)} values"
    return ", ".join(words)


def _and(words):
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
