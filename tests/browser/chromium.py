"""Debian's Chromium without a screen, for tests of pages and for the pictures in the docs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
def chromium(width: int = 1280, height: int = 800, program: Path | None = None) -> Iterator[Page]:
    """A page of a browser that reaches loopback alone; gone afterwards.

    ``program``: what starts it instead, such as :func:`in_network`.
    """
    require_packages("Chromium", ["chromium"], program="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program or shutil.which("chromium"), args=list(SILENT)
        )
        context = browser.new_context(viewport={"width": width, "height": height})
        # A page that asks somebody else for a font or a script shows so by failing, not by waiting.
        context.route(
            lambda url: (
                not url.startswith(("http://127.0.0.1", "http://localhost", "blob:", "data:", "file:"))
            ),
            lambda route: route.abort(),
        )
        try:
            yield context.new_page()
        finally:
            browser.close()


def in_network(folder: Path, inside: Callable[..., list[str]]) -> Path:
    """A program that starts Chromium in another network namespace; ``inside`` wraps a command so."""
    require_packages("Chromium", ["chromium"], program="chromium")
    program = folder / "chromium"
    command = " ".join(inside(shutil.which("chromium") or "chromium"))
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return program
