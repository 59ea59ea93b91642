"""How the tabs look in one visit, after their main paths: on a desktop, a tablet and a phone, light and dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import fill, set_numbers
from playwright.sync_api import Page, expect

from app.__main__ import TABS
from app.screenshots import ACTS

pytestmark = pytest.mark.slow

LOOKS = [(1440, "light"), (1024, "dark"), (390, "light"), (390, "dark")]
# Tab -> number fields: as many images and figures as the page offers, fewer steps. The tour takes the page's own settings.
FEW_STEPS = {"Clock": {"clock_steps": 5}, "Trajectories": {"paths_steps": 5}, "Theory": {"exact_steps": 10}}
# Tab -> what is pressed after its main path.
THEN = {"Clock": ("#ruler-go", "#ruler-status", "Measured in")}

# Contrast of every piece of text against what lies behind it, WCAG 2.2; what is disabled need not reach 4.5.
CONTRAST = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = color => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = color; paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, ground) => [0, 1, 2].map(i => top[i] * top[3] + ground[i] * (1 - top[3]));
  const light = color => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const value = color[i] / 255;
    return sum + weight * (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, box = element.getBoundingClientRect();
    if (!texts.currentNode.textContent.trim() || box.width < 2 || box.height < 2 || element.closest(':disabled')) continue;
    const around = [];
    for (let part = element; part; part = part.parentElement) around.push(getComputedStyle(part));
    const ground = around.reduceRight((below, style) => over(parse(style.backgroundColor), below), [255, 255, 255]);
    const ink = parse(element.namespaceURI.includes('svg') ? around[0].fill : around[0].color);
    ink[3] *= around.reduce((opacity, style) => opacity * style.opacity, 1);
    const pair = [light(over(ink, ground)), light(ground)].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) faint.push(`${texts.currentNode.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


# What goes beyond the page, unless it lies in a part that scrolls sideways by itself.
PARTS = "img, canvas, .js-plotly-plot, button, input, h2, p, td, th"
CUT_OFF = """(width) => [...document.querySelectorAll('PARTS')].filter(part => {
    if (!part.checkVisibility() || part.getBoundingClientRect().right <= width) return false;
    for (let around = part.parentElement; around; around = around.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(around).overflowX)) return false;
    return true;
}).map(part => part.outerHTML.slice(0, 200))""".replace("PARTS", PARTS)


# What can be used with a pointer but not reached with the keyboard.
OUT_OF_REACH = """() => [...document.querySelectorAll('button, input, textarea, a[href], summary, [role=slider]')].filter(
    part => part.checkVisibility({visibilityProperty: true}) && !part.disabled && part.tabIndex < 0
).map(part => part.outerHTML.slice(0, 200))"""


# Colors change over a moment when the theme does: what is judged is how the page looks afterwards.
AT_REST = """() => Promise.allSettled(document.getAnimations().filter(
    one => one.effect.getComputedTiming().endTime !== Infinity).map(one => one.finished))"""


def serious(page: Page, **where: str) -> list[tuple[str, str]]:
    """Rule and first element of each serious or critical finding of axe, once the page is at rest."""
    page.evaluate(AT_REST)
    found = Axe().run(page, **where).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def test_no_tab_is_cut_off_or_hard_to_read(open_page):
    """At every width and in both themes; every image has a text, and the keyboard reaches all that a pointer does."""
    page = open_page(width=LOOKS[0][0])
    assert set(ACTS) == set(TABS)
    for tab, acts in ACTS.items():
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Compare":
            set_numbers(page, Steps=5)
        fill(page, **FEW_STEPS.get(tab, {}))
        for pressed, place, words in [*acts, *([THEN[tab]] if tab in THEN else [])]:
            page.locator(pressed).click()
            expect(page.locator(place)).to_contain_text(words, timeout=90_000)
        if tab == "Trajectories":
            fill(page, paths_image=2)
            expect(page.locator("#paths-chosen img")).to_have_count(4)
        page.wait_for_timeout(1000)  # figures are drawn after the words
        for width, theme in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("theme => document.body.classList.toggle('dark', theme === 'dark')", theme)
            page.wait_for_timeout(500)  # figures take the new width
            where = f"{tab}, {width} pixels, {theme}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, where
            assert not page.evaluate(CUT_OFF, width), where
            assert not page.evaluate(OUT_OF_REACH), where
            assert not page.evaluate(CONTRAST), where
            assert not page.locator("img:visible").evaluate_all("images => images.filter(image => !image.alt).length"), where
            if width > 1000:
                assert not serious(page), where
        page.set_viewport_size({"width": LOOKS[0][0], "height": 900})


def test_the_tour_is_easy_to_read(open_page):
    page = open_page("?tour=2&__theme=dark", width=1440)
    expect(page.locator("#tour")).to_be_visible()
    page.wait_for_timeout(1500)
    assert page.evaluate("document.body.classList.contains('dark')")
    for _ in range(2):
        assert not serious(page, context="#tour")
        page.evaluate("document.body.classList.remove('dark')")
