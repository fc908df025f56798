"""The page of an audit: one HTML file that needs no other."""

import html

from .finding import NOT_OFFERED

_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;margin:1em 0}td,th{text-align:left;vertical-align:top;padding:.4em .7em;
border-bottom:1px solid #ddd}code{background:#f3f3f3;padding:.1em .3em;overflow-wrap:anywhere}
.passed{color:#176b2c}.failed{color:#b3261e;font-weight:600}.reported{color:#1b4f8f}.not{color:#777}small{color:#555}"""


def page(found, replay):
    """found: report.record(); replay: {check: command line that runs its worst input again}."""
    failed = [check["check"] for check in found["checks"] if check["status"] == "failed"]
    title = f"Audit of {found['subject']}"
    if all(check["status"] == NOT_OFFERED for check in found["checks"]):
        verdict = "Nothing could be checked."
    else:
        verdict = "No check failed." if not failed else "Failed: " + ", ".join(failed) + "."
    settings = ("dtype", "seq_len", "heads", "heads_k", "head_dim", "block_size", "topk", "seed")
    shown = ", ".join(f"{name} {found[name]}" for name in settings)
    rows = "".join(_row(check, replay.get(check["check"], "")) for check in found["checks"])
    tables = "".join(_numbers(check) for check in found["checks"] if check["table"])
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
        f"<h1>{_text(title)}</h1><p>{_text(verdict)}</p><p><small>{_text(shown)}; {_text(found['arrays'])} arrays, "
        f"centroids kept in {_text(found['centroid_format'])}, ties: {_text(found['ties'])}. {_text(versions)}</small></p>"
        f"<table><tr><th>check<th>status<th>measured</tr>{rows}</table>{tables}</html>\n"
    ).encode()


def _row(check, command):
    status = check["status"]
    kind = "not" if status == "not offered" else status
    cell = _text(check["measured"])
    if check["worst_input"]:
        worst = ", ".join(x for x in (check["worst_input"], check["worst"]) if x)
        cell += f"<br><small>Worst of {check['inputs']} inputs: {_text(worst)}</small>"
    if command:
        cell += f"<br><small>Again: <code>{_text(command)}</code></small>"
    return (
        f'<tr><td>{_text(check["check"])}<br><small>{_text(check["question"])}</small>'
        f'<td class="{kind}">{_text(status)}<td>{cell}</tr>'
    )


def _numbers(check):
    names = list(check["table"][0])
    head = "".join(f"<th>{_text(name.replace('_', ' '))}" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_text(_short(row[n]))}" for n in names) + "</tr>" for row in check["table"])
    return f"<h2>{_text(check['check'])}</h2><table><tr>{head}</tr>{body}</table>"


def _short(value):
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value):
    return html.escape(str(value))
