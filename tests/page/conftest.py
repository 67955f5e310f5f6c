"""A browser for the page, offline, in which every message of the console and every request is an error."""

import os
import shutil

import numpy as np
import polars as pl
import pytest
from browsing import ATTACK, FAST

import unseen

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no chromium: `apt-get install chromium` (in CI this is a failure)")
    assert CHROMIUM, "CI needs chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return unseen.score("digits", out=tmp_path_factory.mktemp("page") / "run", random_labels=0.1, **FAST)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attack")
    random = np.random.default_rng(0)
    names = {"id": [f'"{ATTACK}",{n}' for n in range(90)], f"a{ATTACK}": random.normal(size=90), "label": [ATTACK, '=1+1,"x"', "ok"] * 30}
    pl.DataFrame(names).write_csv(folder / "table.csv")
    examples = unseen.load(str(folder / "table.csv"), target="label", id_column="id")
    return unseen.score(examples, out=folder / "run", **FAST), examples


@pytest.fixture
def open_page(browser):
    """Opens a file, offline; every message of its console and every request that is not the file itself is an error."""
    contexts, complaints = [], []

    def opened(path, address="", before=None, **options):
        context = browser.new_context(offline=True, accept_downloads=True, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith(("http", "ws")) else None)
        if before:
            page.add_init_script(before)
        page.goto(path.as_uri() + address)
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
