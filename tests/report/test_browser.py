"""The page as a reader meets it: in a real Chromium, from a file, without a network."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
PANELS = 10  # one chart each: 1 + 2 + 1 + 2 + 3 of lines, and the heat map


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        missing = "no Chromium (chromium, chromium-browser or google-chrome) on PATH"
        if os.environ.get("NORMSCOPE_FORBID_SKIPS") == "1":
            pytest.fail(f"{missing}, and NORMSCOPE_FORBID_SKIPS=1 forbids to skip this test")
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One visit to a page, with what it complained about and asked for."""

    def __init__(self, context, path):
        self.complaints, self.requests = [], []
        self.tab = context.new_page()
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("#undrawn", state="detached", timeout=60_000)


@pytest.fixture
def visit(chromium, page):
    contexts = []

    def open_page(**options):
        contexts.append(chromium.new_context(**options))
        return Visit(contexts[-1], page)

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_without_a_complaint_or_a_request(visit, scheme):
    seen = visit(color_scheme=scheme)

    assert seen.tab.locator(".js-plotly-plot").count() == PANELS
    for chart in seen.tab.locator(".js-plotly-plot").all():
        assert chart.locator("svg").count() > 0
        assert chart.locator(".trace, .heatmaplayer image").count() > 0
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in seen.requests if url.startswith("file:")]) == 1


@pytest.mark.parametrize(("scheme", "lightness"), [("light", range(80)), ("dark", range(180, 256))])
def test_text_in_the_charts_follows_the_color_scheme(visit, scheme, lightness):
    tab = visit(color_scheme=scheme).tab
    for part in (".xtick text", ".ytick text", ".ytitle"):
        fill = tab.locator(part).first.evaluate("e => getComputedStyle(e).fill")
        assert int(fill.removeprefix("rgb(").split(",")[0]) in lightness, part


def test_a_legend_hides_its_normalizer_in_every_figure(visit):
    tab = visit().tab
    traces = "[...document.querySelectorAll('.chart')].flatMap(chart => chart.data)"
    shown = f"{traces}.filter(trace => trace.meta === 'batchnorm' && trace.visible !== false).length"
    assert tab.evaluate(shown) > 9

    tab.locator(".legend input[value=batchnorm]").first.uncheck()

    tab.wait_for_function(f"({shown}) === 0")
    assert tab.locator(".legend input[value=batchnorm]:checked").count() == 0
    tab.locator(".legend input[value=batchnorm]").last.check()
    tab.wait_for_function(f"({shown}) > 9")


def test_hovering_a_point_tells_the_single_seeds(visit):
    tab = visit(viewport={"width": 1200, "height": 900}).tab
    chart = tab.locator(".chart[data-figure=information_propagation]")
    chart.scroll_into_view_if_needed()
    marker = chart.locator(".trace.scatter .point").first.bounding_box()
    tab.mouse.move(marker["x"] + marker["width"] / 2, marker["y"] + marker["height"] / 2)
    chart.locator(".hovertext").wait_for()
    assert "seed 2" in chart.locator(".hovertext").first.text_content()


def test_a_phone_shows_the_page_without_sideways_scrolling(visit):
    tab = visit(viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True).tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for chart in tab.locator(".js-plotly-plot").all():
        assert chart.bounding_box()["width"] <= 390


def test_the_download_link_gives_the_numbers(visit, page):
    tab = visit().tab
    with tab.expect_download() as download:
        tab.locator("a[download='gradient_norm.csv']").click()
    assert download.value.path().read_text() == (page.parent / "figures/gradient_norm.csv").read_text()


def test_charts_have_names_for_a_screen_reader_and_tables_behind_them(visit):
    tab = visit().tab
    for chart in tab.locator(".chart").all():
        assert chart.get_attribute("role") == "img"
        assert chart.get_attribute("aria-label").endswith("The numbers are in the table below the figure.")
    assert tab.locator("figure").count() == tab.locator("figure details table caption").evaluate_all(
        "all => new Set(all.map(c => c.closest('figure'))).size"
    )


def test_charts_fit_the_paper_when_printed(visit):
    tab = visit(viewport={"width": 1600, "height": 900}).tab
    widths = "[...document.querySelectorAll('.js-plotly-plot .main-svg')].map(s => s.getBoundingClientRect().width)"
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.wait_for_function(f"Math.max(...{widths}) <= 640")
