"""The page in a browser: nothing leaves it, nothing fails in it, its slider moves, and it fits a phone."""

import shutil

import numpy as np
import pytest
from etils import epath

from ddpm_jax.evaluation import results
from ddpm_jax.report import compare, compare_page, comparison, compose, contents
from ddpm_jax.runtime import images

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def run(loud_run):
    """The loud run with a log, grids of three steps and a page."""
    made = loud_run()
    rows = [f'{{"step": {step}, "loss": {9 / step}}}\n' for step in range(1, 5)]
    (made.directory / "metrics.jsonl").write_text("".join(rows))
    for step in (1, 2, 4):
        gray = np.full((9, 8, 8, 1), 50 * step, np.uint8)
        images.write_png(made.directory / "samples" / f"{step}-grid.png", images.grid(gray))
    compose.write(made)
    return made


def open_page(browser, run, **options):
    """Returns the page, and what it requested and complained of."""
    page = browser.new_context(**options).new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"file://{run.directory}/report.html")
    return page, requests, complaints


def shown_step(page):
    """The training step of the one frame that is to be seen, by the gray of its pixels too."""
    frames = page.locator(".frames img:visible")
    assert frames.count() == 1
    place = frames.get_attribute("data-place")
    gray = frames.evaluate(
        "image => { const canvas = document.createElement('canvas');"
        " const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        " return context.getImageData(1, 1, 1, 1).data[0]; }"
    )
    assert place == f"step {gray // 50}"
    return place


def test_the_slider_moves_through_the_steps_and_nothing_is_requested(browser, run):
    """Only a browser runs the script, keeps the policy and would fetch what the page forgot."""
    page, requests, complaints = open_page(browser, run)
    assert shown_step(page) == "step 4"
    slider = page.get_by_role("slider", name="training step")
    slider.focus()
    slider.press("Home")
    assert shown_step(page) == "step 1" and page.locator("output").text_content() == "step 1"
    slider.press("ArrowRight")
    assert shown_step(page) == "step 2" and slider.get_attribute("aria-valuetext") == "step 2"
    assert requests == [f"file://{run.directory}/report.html"] and complaints == []


def test_the_policy_stops_a_request_that_the_page_would_make(browser, run, monkeypatch):
    """Without the policy this one would pass: that the test above sees none means something."""
    image = '<img src="https://example.org/spy.png" alt="">'
    monkeypatch.setattr(contents, "reproduction", lambda run: image)
    compose.write(run)
    page, requests, complaints = open_page(browser, run)
    assert any("Content Security Policy" in each for each in complaints)


def test_without_scripts_the_last_grid_is_shown(browser, run):
    """A mail program runs none."""
    page, _, _ = open_page(browser, run, java_script_enabled=False)
    shown = page.locator(".frames img.shown")
    assert shown.count() == 1 and shown.get_attribute("data-place") == "step 4"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_the_screen_and_can_be_read(browser, run, width, scheme):
    """No sideways scrolling, letters of 11 pixels or more, and a contrast of 4.5 (WCAG AA) of text to paper."""
    size = {"width": width, "height": 800}
    page, _, complaints = open_page(browser, run, viewport=size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('p, td, dd, dt, li, small, figcaption, output, pre')]"
        ".map(each => parseFloat(getComputedStyle(each).fontSize))"
    )
    charts = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(each => 12 * each.ownerSVGElement"
        ".getBoundingClientRect().width / each.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert min(sizes) >= 11 and min(charts) >= (8 if width < 360 else 10)
    for selector in ("body", ".lead", ".card dt", ".card small", "figcaption", ".cautions", "pre"):
        assert contrast(page, selector) >= 4.5, selector
    assert complaints == []


def contrast(page, selector):
    """The contrast of an element's text to what lies behind it, by WCAG 2.1."""
    colours = page.evaluate(
        """selector => {
          let element = document.querySelector(selector);
          const ink = getComputedStyle(element).color;
          while (getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
          return [ink, getComputedStyle(element).backgroundColor].map(each => each.match(/\\d+/g).map(Number));
        }""",
        selector,
    )
    ink, paper = sorted(map(luminance, colours))
    return (paper + 0.05) / (ink + 0.05)


def luminance(colour):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in np.array(colour[:3]) / 255
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("width", [320, 1280])
def test_the_tables_of_a_comparison_fit_or_scroll_and_no_row_is_a_column_of_letters(
    browser, run, tmp_path, width
):
    """Only a browser breaks lines."""
    sides = [
        compare.read_side(name, run, 4)._replace(numbers={"fid_50k_train": number(value)})
        for name, value in {"linear": 3.17, "cosine-with-a-long-name": 3.21, "other": 4.0}.items()
    ]
    folder = epath.Path(tmp_path)
    text = compare_page.page(sides, comparison.compare(sides), folder, 0)
    (folder / "report.html").write_text(text)
    page, _, complaints = open_page(
        browser, run._replace(directory=folder), viewport={"width": width, "height": 800}
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width and complaints == []
    heights = page.evaluate(
        "[...document.querySelectorAll('tr')].map(row => row.getBoundingClientRect().height)"
    )
    assert max(heights) < 120 and "3.170 ± 0.020" in page.locator("table").first.inner_text()


def number(value):
    return results.Measurement(4, "fid_50k_train", value, 0.02, {})
