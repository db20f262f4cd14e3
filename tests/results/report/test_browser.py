"""The report in a real Chromium: light, dark, on a phone, on paper, with everything that users put into rows."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from specbatch.results.hardware import Hardware
from specbatch.results.report.report import write_report
from specbatch.results.rows import ErrorCode
from specbatch.results.verification import Divergence, Verification
from tests.results.builders import finish_run, make_error, make_row

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCRIPT = "<script>document.title='taken'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='taken'\">"
EVIL = {
    "script": SCRIPT,
    "closing": "</pre></td></table></style><h1 id='taken'>gone</h1>",
    "right to left": "\u202eevil\u2066 مرحبا بالعالم، كيف حالك؟ 123",
    "long": "A" * 10_000,
    "emoji": "😀👩‍👩‍👧‍👦🏳️‍🌈 e\u0301\u0327 ﷽ 🇨🇳" * 20,
    "controls": "".join(map(chr, range(32))) + "\x7f\x85\x9b\u2028\u2029\ufeff\ufffe\ud800",
    "entities": "&lt;b&gt; &amp;amp; &#60;i&#62; ' \" ` ${x} {{y}}",
}
VIEWS = [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


def make_run(folder):
    """A run with every section, and every kind of text a user may bring, in every place where one can."""
    rows = [
        make_row(index, prompt=f"What is {index} + 0?", answer=str(index), correct=True) for index in range(60, 120)
    ]
    rows += [
        make_row(
            index, id=f"{name}-{text[:60]}", prompt=text, text=text, answer=text, correct=False, finish_reason=text[:40]
        )
        for index, (name, text) in enumerate(EVIL.items())
    ]
    codes = list(ErrorCode)
    errors = [
        make_error(200 + index, id=text[:500], message=text, code=codes[index])
        for index, text in enumerate(EVIL.values())
    ]
    found = Verification(
        finished=67, sampled=10, seed=0, exact=8, ties=1, unexplained=1, target="embedded:target@1", dtype="bfloat16",
        scores="float32", target_only_tokens_per_second=20.0, target_only_rows=10, target_only_tokens=300, max_sequences=8,
        device="cuda:0", divergences=tuple(
            Divergence(id=text[:500], index=1, kind="tie", position=3, recorded=text[:50], target=text[:50], margin=0.01, bound=0.1,
                       excerpt=text[:200])
            for text in EVIL.values()
        ),
    )  # fmt: skip
    spec = {"metadata": EVIL, "spec": {"decoding": {"maxNewTokens": 128}, "job": {str(n): None for n in range(60)}}}
    finish_run(
        folder, rows, errors, spec=spec, versions={"torch": "2.13.0", SCRIPT: SCRIPT}, env={"TARGET_GPU": "x" * 3000},
        placement_tree=f"target\n└── cpu  {SCRIPT} {'layers 0-15, ' * 30}\n\nEnvironment\n  A={'b' * 400}",
        verification=found.to_json(), hardware=Hardware(gpus={SCRIPT: 8}, cpus=96, cpu=EVIL["controls"]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / ("nightly-" + "x" * 120)
    make_run(folder)
    return write_report(folder)


@pytest.fixture(scope="module")
def pages(browser, report):
    """The page in each view, with what it asked of the network and what it complained of."""
    opened = {}
    for scheme, width in VIEWS:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.asked, page.complaints = [], []
        page.on("request", lambda request, page=page: page.asked.append(request.url))
        page.on("console", lambda message, page=page: page.complaints.append(message.text))
        page.on("pageerror", lambda error, page=page: page.complaints.append(str(error)))
        page.goto(report.as_uri())
        page.wait_for_load_state("networkidle")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        opened[scheme, width] = page
    return opened


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_asked_of_any_network_and_nothing_complained_of(pages, report, view):
    page = pages[view]
    assert page.asked == [report.as_uri()]
    assert page.complaints == []


@pytest.mark.parametrize("view", VIEWS)
def test_what_users_wrote_stays_text(pages, view):
    page = pages[view]
    assert "taken" not in page.title()
    assert page.locator("script, img, iframe, link, #taken, h1 + h1, main h1 h1").count() == 0
    text = page.evaluate("document.body.textContent")
    assert SCRIPT in text
    assert EVIL["closing"] in text
    assert EVIL["entities"] in text
    assert "مرحبا بالعالم" in text
    assert "(10,000 characters)" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "\u2400\u2401" in text  # control characters as their pictures


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_is_never_wider_than_the_screen(pages, view):
    page = pages[view]
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room
    # And nothing is wider than its own box, but for preformatted text, which scrolls there.
    cut = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(
             one => !one.closest('svg, pre') && one.clientWidth && one.scrollWidth > one.clientWidth + 1
           ).map(one => `${one.tagName}.${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
    )
    assert cut == []


CONTRASTS = """() => {
  const parse = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const background = one => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.getClientRects().length) continue;
    const style = getComputedStyle(one), under = background(one);
    const ink = over(parse(one.closest('svg') ? style.fill : style.color), under);
    const [low, high] = [luminance(ink), luminance(under)].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), one.tagName, walker.currentNode.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_all_text_has_a_contrast_of_at_least_four_and_a_half(pages, view):
    found = pages[view].evaluate(CONTRASTS)
    assert len(found) > 300
    assert any(tag == "text" for _, tag, _ in found), "no text of a figure was looked at"
    assert [one for one in found if one[0] < 4.5] == []


def test_figures_follow_the_colour_scheme(pages):
    colours = "[...document.querySelectorAll('figure svg text, figure svg path')].map(one => getComputedStyle(one).fill + getComputedStyle(one).stroke)"
    light, dark = (set(pages[scheme, 1280].evaluate(colours)) for scheme in ("light", "dark"))
    assert len(light) >= 5
    assert len(light - dark) >= 4
    accent = "rgb(37, 99, 235)"
    assert any(accent in one for one in light)
    assert not any(accent in one for one in dark)


def test_text_of_figures_can_be_read_on_a_phone(pages):
    heights = pages["light", 360].evaluate(
        "[...document.querySelectorAll('figure svg text')].map(one => parseFloat(getComputedStyle(one).fontSize) * Math.hypot(one.getScreenCTM().a, one.getScreenCTM().b))"
    )
    assert len(heights) > 40
    assert min(heights) >= 7.5


def test_paper_has_every_figure_whole_and_every_detail_open(browser, report, tmp_path):
    page = browser.new_page(color_scheme="dark")  # paper is white all the same
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(
        "[...document.querySelectorAll('figure svg path')].some(one => getComputedStyle(one).fill == 'rgb(37, 99, 235)')"
    )
    data = page.pdf(prefer_css_page_size=True, print_background=True)
    page.close()
    (tmp_path / "report.pdf").write_bytes(data)
    sheets = placed_figures(tmp_path / "report.pdf")
    assert len(sheets) > 1
    assert sum(count for count, _ in sheets) >= 10, sheets
    text = " ".join(text for _, text in sheets)
    for title in ("Throughput over time", "Errors by code", "Placement", "Versions and identity", "maxNewTokens"):
        assert title in text, title


def test_no_figure_is_cut_by_the_end_of_a_page(browser, report):
    page = browser.new_page(viewport={"width": 688, "height": 1016})  # A4 less its margins, in CSS pixels
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    figures = page.evaluate(
        "[...document.querySelectorAll('figure')].map(one => [one.getBoundingClientRect().height, getComputedStyle(one).breakInside])"
    )
    page.close()
    assert len(figures) == 10
    assert all(rule == "avoid" and height < 1016 for height, rule in figures)


def placed_figures(pdf):
    """(titles of figures, text) of each sheet, as pdftotext reads them."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on PATH")
    text = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    titles = (
        "Throughput over time", "k over time", "Acceptance by position", "Accepted length", "Prompt and output lengths",
        "Where the time went", "Finish reasons", "Errors by code", "Row latency", "GPU memory over time",
    )  # fmt: skip
    return [(sum(title in sheet for title in titles), sheet) for sheet in text.split("\f")]
