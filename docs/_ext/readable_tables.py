"""Tables that can be read at any width, and whose rows can be linked to.

Each row gets an anchor, made from its first cell, so that an alert or an answer can link to it. Each cell
carries the head of its column. `_static/site.css` needs that to show rows one under the other: those of a
wide table always, those of the other tables on a narrow screen.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.writers.html5 import HTML5Translator

# A table of this many columns, with rows of this many characters, is a page of text squeezed into columns.
WIDE_COLUMNS, WIDE_ROW = 4, 130
# A cell without longer words has room in any column.
SHORT_WORD = 20


class MarkWideTables(SphinxTransform):
    """Give wide tables a class, and every row an identifier that is its own on the page."""

    default_priority = 700

    def apply(self, **kwargs: Any) -> None:
        """Change the document in place."""
        for table in self.document.findall(nodes.table):
            rows = next(table.findall(nodes.tbody)).children
            longest = max(len(row.astext()) for row in rows)
            if len(rows[0]) >= WIDE_COLUMNS and longest >= WIDE_ROW:
                table["classes"].append("wide")
            for entry in table.findall(nodes.entry):
                if max(map(len, entry.astext().split()), default=0) <= SHORT_WORD:
                    entry["classes"].append("short")
            for row in rows:
                self._name(row)

    def _name(self, row: nodes.Element) -> None:
        first = nodes.make_id(row[0].astext().split("\n")[0])[:60].strip("-")
        name, number = first, 1
        while first and name in self.document.ids:
            number += 1
            name = f"{first}-{number}"
        if name:
            row["ids"].append(name)
            self.document.ids[name] = row


def _heads(row: nodes.Element) -> list[str]:
    group = row.parent.parent
    return [entry.astext() for head in group.findall(nodes.thead) for entry in head[0]]


def visit_entry(self: HTML5Translator, node: nodes.Element) -> None:
    """Open a cell that knows the head of its column."""
    HTML5Translator.visit_entry(self, node)
    row = node.parent
    if isinstance(row.parent, nodes.tbody):
        heads, column = _heads(row), row.index(node)
        if column < len(heads) and heads[column]:
            self.body[-1] = self.body[-1].replace("<td", f'<td data-head="{escape(heads[column])}"', 1)


def depart_entry(self: HTML5Translator, node: nodes.Element) -> None:
    """Close a cell; the first one of a row has the link to its row."""
    row = node.parent
    if isinstance(row.parent, nodes.tbody) and row.index(node) == 0 and row["ids"]:
        link = f'<a class="headerlink" href="#{row["ids"][0]}" title="Link to this row">¶</a>'
        before, end, after = self.body[-1].rpartition("</p>")
        self.body[-1] = f"{before}{link}{end}{after}"
    HTML5Translator.depart_entry(self, node)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(MarkWideTables)
    app.add_node(nodes.entry, override=True, html=(visit_entry, depart_entry))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
