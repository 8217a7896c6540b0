"""The report in Chromium: it loads from a file without a word on the console, and does what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_scene import document, scene

from apiece.evaluate.report import write_report

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VISIBLE = "[...document.querySelectorAll('#gallery figure')].filter((one) => one.offsetParent !== null)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    subject, entries = scene(folder)
    write_report(document(subject, entries), subject, entries, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (apt install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, opened; fails where the console says anything or anything is asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: said.append(request.url) if not local(request.url) else None)
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert said == []


def local(address: str) -> bool:
    return address.startswith(("file:", "data:"))


def shown(page: Any) -> list[str]:
    kinds: list[str] = page.evaluate(f"{VISIBLE}.map((one) => one.dataset.kind)")
    return kinds


def status(page: Any) -> str:
    return str(page.inner_text("#filter-status"))


def test_every_picture_is_there(page: Any) -> None:
    widths = page.evaluate(
        "Promise.all([...document.images].map((one) => one.decode().then(() => one.naturalWidth)))"
    )
    assert len(widths) > 8
    assert all(width > 0 for width in widths)
    # The outlines lie on their picture.
    apart = page.evaluate(
        "[...document.querySelectorAll('.view')].map((view) => [...view.children].map((one) => "
        "one.getBoundingClientRect())).filter(([a, b]) => b && (Math.abs(a.x - b.x) + Math.abs(a.width - b.width) > 1))"
    )
    assert apart == []


def test_nothing_from_a_name_runs_and_the_policy_stops_what_would(
    page: Any, browser: Any, report: Path
) -> None:
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    text = report.read_text(encoding="utf-8")
    attacked = report.with_name("attacked.html")
    attacked.write_text(
        text.replace(
            "<main id", '<img src=x onerror="document.title=1"><script>document.title = 1</script><main id'
        ),
        encoding="utf-8",
    )
    other = browser.new_page()
    said: list[str] = []
    other.on("console", lambda message: said.append(message.text))
    other.goto(attacked.as_uri())
    other.wait_for_load_state("load")
    assert other.title() != "1"
    assert sum("Content Security Policy" in one for one in said) >= 2
    other.close()


def test_filters_by_mouse(page: Any) -> None:
    everything = shown(page)
    assert {"matched", "missed", "spurious"} <= set(everything)
    assert status(page) == f"All {len(everything)} pictures are shown."
    page.click(".chip[data-kind=missed]")
    missed = everything.count("missed")
    assert shown(page) == ["missed"] * missed
    assert status(page) == f"{missed} of {len(everything)} pictures are shown (kind missed)."
    assert page.get_attribute(".chip[data-kind=missed]", "aria-pressed") == "true"
    assert not page.is_visible("#kind-spurious")
    assert page.is_visible("#kind-missed")
    page.click(".chip[data-kind=spurious]")
    assert set(shown(page)) == {"missed", "spurious"}
    page.click("#filter-reset")
    assert shown(page) == everything
    assert status(page) == f"All {len(everything)} pictures are shown."


def test_filters_by_class_and_name(page: Any) -> None:
    everything = len(shown(page))
    page.select_option("#filter-class", index=2)  # the second class; 0 is all
    of_class = page.evaluate(f"{VISIBLE}.map((one) => one.dataset.classes.split(' '))")
    assert 0 < len(of_class) < everything
    assert all("1" in classes for classes in of_class)
    page.fill("#filter-name", "FIRST")
    names = page.evaluate(f"{VISIBLE}.map((one) => one.dataset.name)")
    assert 0 < len(names) < len(of_class)
    assert set(names) == {"first.png"}
    assert "name contains “FIRST”" in status(page)
    rows = page.evaluate(
        "[...document.querySelectorAll('#worst tbody tr')].filter((one) => !one.hidden).length"
    )
    assert rows == 1
    page.fill("#filter-name", "no such picture")
    assert shown(page) == []
    assert status(page).startswith(f"None of the {everything} pictures fits")


def test_filters_by_keyboard(page: Any) -> None:
    everything = shown(page)
    page.focus(".chip[data-kind=matched]")
    for _ in range(30):
        if page.evaluate("document.activeElement.dataset.kind") == "merged":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert set(shown(page)) == {"merged"}
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert shown(page) == everything
    page.focus("[data-only=split]")  # in the ledger
    page.keyboard.press("Enter")
    assert set(shown(page)) == {"split"}
    assert page.get_attribute("[data-only=split]", "aria-pressed") == "true"
    page.focus("#filter-name")
    page.keyboard.type("third")
    assert shown(page) == []
    page.keyboard.press("Enter")  # must not send the form
    assert page.url.endswith("report.html")


def test_outlines_can_be_switched_off(page: Any) -> None:
    def drawn(kind: str) -> int:
        outlines = f"[...document.querySelectorAll('#gallery .o.{kind}')]"
        found: int = page.evaluate(
            f"{outlines}.filter((one) => getComputedStyle(one).display !== 'none').length"
        )
        return found

    assert drawn("truth") > 0
    assert drawn("prediction") > 0
    page.uncheck("#show-truth")
    assert drawn("truth") == 0
    assert drawn("prediction") > 0
    page.uncheck("#show-prediction")
    assert drawn("prediction") == 0
    narrow = page.evaluate("document.querySelector('#gallery figure').offsetWidth")
    page.check("#show-large")
    assert page.evaluate("document.querySelector('#gallery figure').offsetWidth") > narrow
    page.click("#filter-reset")
    assert drawn("truth") > 0
    assert drawn("prediction") > 0


def test_truth_and_prediction_differ_in_colour_and_in_line(page: Any) -> None:
    styles = page.evaluate(
        "['truth', 'prediction'].map((side) => getComputedStyle(document.querySelector('#gallery .o.' + side)))"
        ".map((style) => [style.stroke, style.strokeDasharray])"
    )
    assert styles[0][0] != styles[1][0]
    assert styles[0][1] == "none"
    assert styles[1][1] != "none"


def test_slices_sort_by_number_and_by_name(page: Any) -> None:
    def column(index: int) -> list[str]:
        cells: list[str] = page.evaluate(
            f"[...document.querySelectorAll('#slices tbody tr')].map((row) => row.cells[{index}].dataset.sort)"
        )
        return cells

    heads = page.evaluate("[...document.querySelectorAll('#slices thead th')].map((one) => one.textContent)")
    recall = heads.index("Recall, %")
    page.click("#slices thead th:has-text('Recall') button")
    assert column(recall) == ["0.9", "0.5", "0.3"]
    assert page.get_attribute("#slices thead th:has-text('Recall')", "aria-sort") == "descending"
    assert "Sorted by Recall, %, descending." in page.inner_text("#slices")
    page.keyboard.press("Enter")
    assert column(recall) == ["0.3", "0.5", "0.9"]
    page.click("#slices thead th:has-text('Slice') button")
    assert column(0) == sorted(column(0))
    assert page.get_attribute("#slices thead th:has-text('Recall')", "aria-sort") == "none"
    assert "lower recall" in page.inner_text("#slices")
    assert "few" in page.inner_text("#slices")


CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor, alpha = parts(colour)[3];
      if (alpha === undefined || alpha === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), worst = {};
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || one.closest('script, style, .skip')) continue;
    if (!one.getClientRects().length) continue;
    const style = getComputedStyle(one);
    const colour = one.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(colour), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), key = one.tagName + '.' + (one.getAttribute('class') || '');
    worst[key] = Math.min(worst[key] || 99, ratio);
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.click(".chip[data-kind=missed]")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == ("rgb(16, 20, 26)" if scheme == "dark" else "rgb(246, 248, 250)")
    worst = page.evaluate(CONTRAST)
    assert len(worst) > 30
    assert {key: ratio for key, ratio in worst.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_everything_is_shown(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#gallery figure").count() == page.locator("#gallery figure:visible").count() > 5
    assert page.locator("#filters:visible").count() == 0
    context.close()


def test_on_paper_filters_vanish_and_no_picture_does(page: Any) -> None:
    everything = len(shown(page))
    page.click(".chip[data-kind=missed]")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.is_visible("#filters")
    assert page.evaluate(f"{VISIBLE}.length") == everything
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 36, 48)"


def test_screen_readers_find_regions_and_charts(page: Any) -> None:
    tree = page.locator("body").aria_snapshot()
    for told in (
        'navigation "Contents"',
        "main",
        'heading "Diagnosis of results & more.json" [level=1]',
        'region "Ledger"',
        'button "Show only pictures of missed"',
        'group "Kind"',
        'combobox "Class"',
        'searchbox "Picture name contains"',
        'img "Reliability: share of right predictions against score',
        "status",
    ):
        assert told in tree, told


def test_on_paper_folds_are_open(page: Any) -> None:
    folds = page.locator("details").count()
    assert folds > 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == folds
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_contents_tell_where_one_is(page: Any) -> None:
    page.evaluate("document.querySelector('#slices').scrollIntoView({ behavior: 'instant' })")
    page.wait_for_selector("nav.contents a[href='#slices'][aria-current]")
    assert page.locator("nav.contents [aria-current]").count() == 1
    # The contents stay in view, and don't lie over what was jumped to.
    bar = page.locator("nav.contents").bounding_box()
    title = page.locator("#slices-title").bounding_box()
    assert bar["y"] == 0
    assert title["y"] >= bar["y"] + bar["height"]
