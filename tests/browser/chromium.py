"""Debian's Chromium without a screen, for tests of pages and for the pictures in the docs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from apt_packages import require_packages
from playwright.sync_api import Page, sync_playwright

SILENT = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    # Without a GPU: WebGL, which viewers draw with, in software.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@contextmanager
def chromium(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page of a browser that reaches loopback alone; gone afterwards."""
    require_packages("Chromium", ["chromium"], program="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(SILENT))
        context = browser.new_context(viewport={"width": width, "height": height})
        # A page that asks somebody else for a font or a script shows so by failing, not by waiting.
        context.route(
            lambda url: not url.startswith(("http://127.0.0.1", "blob:", "data:", "file:")),
            lambda route: route.abort(),
        )
        try:
            yield context.new_page()
        finally:
            browser.close()
