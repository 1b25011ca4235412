"""Pieces of a data check's page: tables, histograms as inline SVG, badges."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from metro_ray.data.check import CheckReport, Finding
from metro_ray.data.check_text import schema_lines, source_table

_EXAMPLES_SHOWN = 10

STYLE = """
h2.part { margin: 1.8rem 0 .6rem; font-size: 1.2rem; }
h3 { margin: 1.2rem 0 .5rem; font-size: 1rem; color: var(--quiet); font-weight: 600; }
.wide { overflow-x: auto; }
td { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
th { text-align: left; } tbody th { font-weight: 500; }
.badge { display: inline-block; padding: 0 .5rem; border-radius: 99px; font-size: .8rem;
  font-weight: 600; color: #fff; white-space: nowrap; }
.badge.error { background: #b3261e; } .badge.warning { background: #8a5300; }
.badge.note { background: #5b5b66; }
code { font-size: .9em; } td small { color: var(--quiet); display: block; }
details ul { margin: .3rem 0; padding-left: 1.1rem; } summary { cursor: pointer; }
.histograms { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr));
  gap: 1rem; }
svg { width: 100%; height: auto; display: block; } svg rect { fill: var(--accent); }
svg text { fill: var(--quiet); font-size: 11px; } svg line { stroke: var(--line); }
.legend b { font-weight: 600; } .legend { color: var(--quiet); margin: 0 0 .6rem; }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(410px, 1fr)); gap: 1rem;
  align-items: start; }
@media (max-width: 500px) { .rows { grid-template-columns: 1fr; } }
.rows article { min-width: 0; } .rows article:target { outline: 3px solid var(--accent); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin: .5rem 0; }
.pair img { border-radius: 8px; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: #00000012; }
.pair .none { grid-column: 1 / -1; }
.problems { list-style: none; margin: 0; padding: 0; font-size: .85rem;
  overflow-wrap: anywhere; }
.problems li { padding-top: .2rem; } .none { color: var(--quiet); }
"""


def badge(severity: str) -> str:
    """The severity as a coloured word."""
    return f'<span class="badge {severity}">{severity}</span>'


def overview(report: CheckReport) -> str:
    """Tables of the sources and of what labels hold."""
    head, *lines = source_table(report)
    columns = [*([""] + ["number"] * 5), ""]
    table = _table(head, lines, columns)
    schema = [("kind", report.kind), *schema_lines(report)]
    rows = "".join(
        f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in schema
    )
    return (
        f'<h2 class="part">Sources</h2><div class="wide">{table}</div>'
        f'<h2 class="part">Labels</h2><div class="wide"><table><tbody>{rows}</tbody></table></div>'
    )


def findings_table(findings: Sequence[Finding], shown_rows: set[int]) -> str:
    """All findings; rows that have a picture on the page are links to it."""
    if not findings:
        return '<h2 class="part">Findings</h2><p>Nothing was found.</p>'
    lines = []
    for finding in findings:
        examples = "".join(_example(finding, i, shown_rows) for i in range(len(finding.examples)))
        more = finding.count - len(finding.examples)
        rest = f"<li>and {more} more</li>" if more > 0 else ""
        lines.append(
            f"<tr><td>{badge(finding.severity)}</td>"
            f"<td>{escape(_sentence(finding.what))}<small><code>{finding.code}</code></small></td>"
            f'<td class="number">{finding.count}</td>'
            f"<td>{escape(_sentence(finding.advice))}"
            f"<details><summary>where</summary><ul>{examples}{rest}</ul></details></td></tr>"
        )
    head = "".join(
        f'<th scope="col" class="{kind}">{text}</th>'
        for text, kind in (
            ("severity", ""),
            ("what", ""),
            ("how many", "number"),
            ("what to do", ""),
        )
    )
    return (
        '<h2 class="part">Findings</h2><div class="wide"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _example(finding: Finding, number: int, shown_rows: set[int]) -> str:
    example = finding.examples[number]
    if example.row_id < 0:
        return f"<li>{escape(example.detail)}</li>"
    where = f"row {example.row_id} ({escape(example.key)})"
    if example.row_id in shown_rows:
        where = f'<a href="#row-{example.row_id}">{where}</a>'
    return f"<li>{where}: {escape(example.detail)}</li>"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    def cells(tag: str, line: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="{kind}">{escape(text)}</{tag}>'
            for text, kind in zip(line, columns, strict=True)
        )

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
