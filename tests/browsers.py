"""A browser for the tests of pages: which program, and how it starts without a GPU."""

from __future__ import annotations

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
WITHOUT_GPU = [
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    # The process that draws may end on a busy machine. Without these, a page stays blank after the second time.
    *("--disable-gpu-watchdog", "--disable-gpu-process-crash-limit", "--disable-domain-blocking-for-3d-apis"),
]
WITH_BROWSER = [
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
"""Marks of a test that opens a page."""
