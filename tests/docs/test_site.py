"""The documentation builds, and nothing on its pages is cut off, on a desk's screen and on a telephone.

What can be cut off: the page itself, a block of code, a table, a picture, a paragraph, an item of a list. A
browser opens every page that the build made, at both widths, and asks each element whether its content is
wider than it is, or reaches over the edge of the text. A picture that was not loaded counts as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import browser

ROOT = Path(__file__).parents[2]
WIDTHS = [1280, 390]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", folder / "html"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return folder / "html"


@pytest.fixture(scope="module")
def chromium() -> str:
    found = browser.find_browser()
    if found is None:
        text = "NO BROWSER: the pages are not looked at; install one, for example: apt-get install chromium"
        if os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
            pytest.fail(text)
        pytest.skip(text)
    return found


def pages(site: Path) -> list[str]:
    made = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    return sorted(page for page in made - {"genindex.html", "search.html"} if not page.startswith("_"))


def test_the_site_builds_without_a_warning(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    title = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    assert title in page


def test_every_row_of_a_wide_table_has_an_anchor_of_its_own(site: Path) -> None:
    rows = 0
    for page in pages(site):
        text = (site / page).read_text(encoding="utf-8")
        names = re.findall(r'\bid="([^"]*)"', text)
        assert [name for name, times in Counter(names).items() if times > 1] == [], page
        for table in re.findall(r'<table class="[^"]*\bwide\b.*?</table>', text, re.DOTALL):
            body = table.partition("<tbody>")[2]
            assert body.count("<tr") == len(re.findall(r'<tr [^>]*id="', body)), page
            rows += body.count("<tr")
    assert rows > 20


def test_nothing_on_a_page_is_cut_off(site: Path, chromium: str, tmp_path: Path) -> None:
    looked = browser.look(chromium, site, pages(site), WIDTHS, tmp_path)
    assert looked.seen > 300
    assert looked.cut == []


def test_what_is_cut_off_is_noticed(chromium: str, tmp_path: Path) -> None:
    wide = "<div style='width: 3000px'>x</div>"
    cut = {
        "pre": f"<pre style='overflow: auto'>{'x' * 500}</pre>",
        "table": f"<div style='overflow: hidden'><table><tr><td>{'x' * 500}</table></div>",
        "img": f"<img style='width: 2000px' src='{PIXEL}'>",
        "page": wide,
    }
    for name, body in {**cut, "lost": "<img width=9 src='none.png'>", "good": f"<img src='{PIXEL}'>"}.items():
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><article><h1>x</h1>{body}</article>")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    names = [f"{name}.html" for name in (*cut, "lost", "good")]
    looked = browser.look(chromium, tmp_path, names, WIDTHS, scratch)
    found = {(entry.page, entry.width, entry.kind) for entry in looked.cut}
    for width in WIDTHS:
        assert {(f"{kind}.html", width, kind) for kind in cut} <= found
        assert ("lost.html", width, "img") in found
    assert not [entry for entry in looked.cut if entry.page == "good.html"]
