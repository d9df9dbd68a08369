"""Open every page of the site as a reader would: python docs/check.py [SCREENSHOTS].

Needs chromium and chromedriver, and axe-core in docs/_build/node_modules (make docs-check). Each
page is opened light and dark, on a desk and on a phone: no link may be dead, no image broken, the
console silent, nothing wider than the phone, and axe-core may find nothing serious. The words in a
figure must be legible on the phone, and each figure needs an alternative text.
"""

import functools
import http.server
import shutil
import sys
import tempfile
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.ui import WebDriverWait

BUILD = Path(__file__).parent / "_build"
SITE = BUILD / "html"
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
FIGURES = "figure img, img.sphx-glr-single-img, img.sphx-glr-multi-img"
DPI = {"png": 200, "svg": 96}
"""Pixels of a figure's file for each inch that it was drawn with."""
FONT, LEGIBLE = 8 / 72, 7
"""Inches of the words in a figure, and the pixels that they need on a phone."""
WORDS = 8
"""Those that an alternative text has at least."""
LOOK = """
const done = arguments[arguments.length - 1];
for (const image of document.images) image.loading = 'eager';
Promise.all([...document.images].map(i => i.decode().then(() => null, () => i.src)))
  .then(broken => done({
    broken: broken.filter(Boolean),
    wide: document.documentElement.scrollWidth - window.innerWidth,
    figures: [...document.querySelectorAll(arguments[0])].map(i => ({
      source: i.currentSrc.split('/').pop(), alt: i.alt, right: i.getBoundingClientRect().right,
      natural: i.naturalWidth, shown: i.getBoundingClientRect().width})),
  }));
"""
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(', '))));
"""
FOUND = "return document.querySelectorAll('#search-results li').length"


class Page(HTMLParser):
    """The links of a page, and the places in it that a link can name."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note the links and the names of an element."""
        found = dict(attrs)
        self.places |= {found[k] for k in ("id", "name") if found.get(k)}
        self.links += [found[k] for k in ("href", "src") if found.get(k)]


def dead_links(pages):
    """Yield each link within the site that leads nowhere."""
    for path, page in pages.items():
        for link in page.links:
            if "://" in link or link.startswith(("data:", "mailto:", "javascript:")):
                continue
            address, place = urldefrag(link)
            if "_modules" in path.parts:  # viewcode misnames a place, on the right page
                place = ""
            target = path if not address else path.parent / unquote(address.partition("?")[0])
            target = target.resolve()
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.exists() or (place and known and unquote(place) not in known.places):
                yield f"{path.relative_to(SITE)}: dead link {link}"


def browser(profile):
    """Give a headless Chromium that talks to nobody but us."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("hide-scrollbars", f"user-data-dir={profile}"),
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def figure_faults(figures):
    """Yield what is wrong with the figures of a page, as a phone shows them."""
    for figure in figures:
        source, inches = figure["source"], figure["natural"] / DPI.get(figure["source"][-3:], 96)
        words = FONT * figure["shown"] / inches if inches else LEGIBLE
        if words < LEGIBLE:
            yield f"{source}: words of {words:.1f} pixels; draw it narrower, with stacked panels"
        if figure["right"] > PHONE["width"] + 1:
            yield f"{source}: ends outside of the screen"
        if len(figure["alt"].split()) < WORDS:
            yield f"{source}: alternative text {figure['alt']!r}; say what it shows"


def seen(driver, address, name, axe, shots):
    """Yield what is wrong with a page."""
    driver.get(f"{address}/{name}")
    for mode in ("light", "dark"):
        driver.execute_script(f"localStorage.mode = '{mode}'; localStorage.theme = '{mode}'")
        for device, size in (("desk", DESK), ("phone", PHONE)):
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(f"{address}/{name}")
            where = f"{name} ({mode}, {device})"
            look = driver.execute_async_script(LOOK, FIGURES)
            yield from (f"{where}: broken image {source}" for source in look["broken"])
            if look["wide"] > 1:
                yield f"{where}: {look['wide']} pixels wider than the screen"
            if device == "phone" and mode == "light":
                yield from (f"{where}: {fault}" for fault in figure_faults(look["figures"]))
            logged = [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
            yield from (f"{where}: console: {entry['message']}" for entry in logged)
            if device == "desk" and not name.startswith("_modules"):
                driver.execute_script(axe)
                yield from (f"{where}: {found}" for found in driver.execute_async_script(AXE))
            if shots:
                shot = shots / f"{name.replace('/', '-').removesuffix('.html')}-{mode}-{device}.png"
                driver.save_screenshot(str(shot))


def searched(driver, address):
    """Yield each word that the search should know and does not."""
    for word in ("improve", "innovation", "laser", "ThreeDVar"):
        driver.get(f"{address}/search.html?q={word}")
        wait = WebDriverWait(driver, 20)
        try:
            wait.until(lambda d: d.execute_script(FOUND) > 0)
        except TimeoutException:
            yield f"search: nothing found for {word!r}"


def main():
    """Check all, print what is wrong, and say how many pages were opened."""
    shots = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    written = (path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts)
    pages = {path.resolve(): Page(path) for path in written}
    wrong = list(dead_links(pages))
    axe = (BUILD / "node_modules/axe-core/axe.min.js").read_text()
    handler = functools.partial(Quiet, directory=SITE)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser(profile) as driver,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for path in pages:
            wrong += seen(driver, address, str(path.relative_to(SITE.resolve())), axe, shots)
        wrong += searched(driver, address)
        server.shutdown()
    print(*dict.fromkeys(wrong), f"{len(pages)} pages, {len(wrong)} faults", sep="\n")
    sys.exit(bool(wrong))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not print each request."""

    def log_message(self, *args):
        """Say nothing."""


if __name__ == "__main__":
    main()
