"""The search of the built site works from file://, and asks no network: `try_search.py site`."""

import os
import shutil
import sys
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def main(site: Path) -> None:
    """Search for a word that is on many pages."""
    if CHROMIUM is None:
        sys.exit("No chromium: the search cannot be tried." if os.environ.get("CI") else None)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").resolve().as_uri())
        page.locator("input.md-search__input").click()
        page.keyboard.type("memorization")
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        found = page.locator(".md-search-result__item").count()
        browser.close()
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    if found < 5 or outside:
        sys.exit(f"The search found {found} pages, and asked {outside}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
