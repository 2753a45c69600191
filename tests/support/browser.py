"""A headless Chromium that looks at pages: it loads each at each width, and says what is cut off there."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Each page is loaded into a frame, because a window cannot be made as narrow as a telephone.
HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
const KINDS = "pre, table, img, svg, object, .highlight, .table-wrapper, dt, dd, p, li";
function look(frame, width) {
  const doc = frame.contentDocument, found = [];
  const main = doc.querySelector("article") || doc.querySelector("[role=main]") || doc.body;
  const style = frame.contentWindow.getComputedStyle(main);
  const edge = main.getBoundingClientRect().right - parseFloat(style.paddingRight);
  const tell = (kind, element, by) => found.push({
    kind, by: Math.round(by), text: (element.textContent || element.src || "").trim().slice(0, 60)});
  const page = doc.scrollingElement;
  if (page.scrollWidth > width) tell("page", main.querySelector("h1") || main, page.scrollWidth - width);
  let seen = 0;
  for (const element of main.querySelectorAll(KINDS)) {
    const box = element.getBoundingClientRect();
    if (box.width === 0 && box.height === 0) continue;
    const kind = element.tagName.toLowerCase();
    if (["pre", "table", "img", "svg", "object"].includes(kind)) seen++;
    const inside = element.clientWidth ? element.scrollWidth - element.clientWidth : 0;
    const outside = box.right - Math.min(edge, width);
    if (kind === "img" && !element.naturalWidth) tell("img", {textContent: "not loaded: " + element.src}, 0);
    else if (Math.max(inside, outside) > 1) tell(kind, element, Math.max(inside, outside));
  }
  return {seen, found};
}
async function visit(path, width) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = path;
  document.body.replaceChildren(frame);
  await new Promise(loaded => frame.onload = loaded);
  await frame.contentDocument.fonts.ready;
  return {path, width, ...look(frame, width)};
}
(async () => {
  const job = await (await fetch("/job")).json();
  for (const path of job.paths) for (const width of job.widths)
    await fetch("/seen", {method: "POST", body: JSON.stringify(await visit(path, width))});
})().catch(error => fetch("/seen", {method: "POST", body: JSON.stringify({error: String(error)})}));
</script></body>"""


class Cut(NamedTuple):
    """Something that a reader cannot see whole: what it is, by how many pixels, and how its text begins."""

    page: str
    width: int
    kind: str
    by: int
    text: str


class Looked(NamedTuple):
    """What the browser saw: how many blocks, tables and pictures, and which were cut off."""

    seen: int
    cut: list[Cut]


def find_browser() -> str | None:
    """The path of a Chromium on this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class _Server(SimpleHTTPRequestHandler):
    """The site's files, the page that loads them, and what it reports."""

    def __init__(
        self, job: dict[str, Any], reports: queue.Queue[dict[str, Any]], *args: Any, **kw: Any
    ) -> None:
        self.job, self.reports = job, reports
        super().__init__(*args, **kw)

    def do_GET(self) -> None:
        if self.path == "/job":
            self._answer("application/json", json.dumps(self.job))
        elif self.path == "/harness":
            self._answer("text/html", HARNESS)
        else:
            super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("text/plain", "")
        self.reports.put(json.loads(body))

    def _answer(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: a test's output has no place for each request."""


def _next(
    reports: queue.Queue[dict[str, Any]], process: subprocess.Popen[bytes], log: Path
) -> dict[str, Any]:
    """Return the next report; fail if the browser has ended, or says nothing for two minutes."""
    for _ in range(60):
        try:
            return reports.get(timeout=2)
        except queue.Empty:
            if process.poll() is not None:
                break
    told = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the browser reports nothing (exit code {process.poll()}):\n{told}")


def look(browser: str, site: Path, pages: list[str], widths: list[int], scratch: Path) -> Looked:
    """Load each page of the site at each width, and say what is cut off. The browser writes into scratch."""
    reports: queue.Queue[dict[str, Any]] = queue.Queue()
    job = {"paths": [f"/{page}" for page in pages], "widths": widths}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, job, reports, directory=str(site)))
    seen, cut = 0, []
    with ExitStack() as stack:
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # In many containers its sandbox cannot be made; the pages are our own.
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--no-first-run", "--disable-breakpad"]
        with open(scratch / "browser.log", "wb") as log:
            process = subprocess.Popen(
                [browser, *flags, "--remote-debugging-port=0", f"--user-data-dir={scratch / 'profile'}",
                 "--window-size=1400,1000", f"http://127.0.0.1:{server.server_port}/harness"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(os.killpg, process.pid, signal.SIGKILL)  # its helpers too
        for _ in range(len(pages) * len(widths)):
            report = _next(reports, process, scratch / "browser.log")
            assert "error" not in report, report
            seen += report["seen"]
            page, width = report["path"].lstrip("/"), report["width"]
            cut += [Cut(page, width, found["kind"], found["by"], found["text"]) for found in report["found"]]
    return Looked(seen, cut)
