"""report.html in a real browser: it asks for nothing, complains of nothing, and no text is cut or lies on another."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import browser
from tests.browser import Browser
from tests.test_page import TARGET, table, written
from trainer.card import Standing

pytestmark = pytest.mark.skipif(browser.find() is None, reason="there is no chromium; .ci/run installs Debian's")

# The boxes of all texts of a page, and what is wrong with them: outside of their chart or of the page, or on another.
MISPLACED = """(() => {
  const found = [], room = document.documentElement.clientWidth;
  const name = one => one.textContent.slice(0, 40);
  for (const one of document.querySelectorAll('h1,h2,p,li,dt,dd,figcaption,td,th,pre')) {
    const box = one.getBoundingClientRect(), frame = one.closest('.wide');
    const end = frame ? frame.getBoundingClientRect().left + frame.scrollWidth : room;
    if (box.right > end + 1 || box.left < 0 || one.scrollWidth > one.clientWidth + 1 && one.clientWidth)
      found.push('cut: ' + name(one));
  }
  for (const chart of document.querySelectorAll('svg')) {
    const around = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll('text')].map(one => [one, one.getBoundingClientRect()]);
    texts.forEach(([one, box], at) => {
      if (box.left < around.left - 1 || box.right > around.right + 1 || box.top < around.top - 1 ||
          box.bottom > around.bottom + 1) found.push('outside: ' + name(one));
      for (const [other, its] of texts.slice(at + 1))
        if (Math.min(box.right, its.right) - Math.max(box.left, its.left) > 1 &&
            Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top) > 3)
          found.push(name(one) + ' on ' + name(other));
    });
  }
  return found;
})()"""
# How well the text of each kind can be told from what is behind it: the contrast of WCAG 2.
CONTRAST = """(() => {
  const probe = document.createElement('canvas').getContext('2d');
  const light = colour => {
    probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    const part = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map(one => one / 255)
      .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const behind = one => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour != 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'white';
  };
  const kinds = 'h1,h1 small,p,figcaption,td,th,pre,.tiles dt,.tiles b,.tiles span,svg text';
  return Math.min(...[...document.querySelectorAll(kinds)].map(one => {
    const style = getComputedStyle(one), own = light(one.tagName == 'text' ? style.fill : style.color);
    const other = light(behind(one));
    return (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
  }));
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a table that has everything, and names of any script and length."""
    folder = tmp_path_factory.mktemp("report")
    given = {"key": "patient", "estimator": "hist_gradient_boosting", "n_estimators": 10, "cv": 2, "show": "all"}
    written(folder, table(), TARGET, Standing("0" * 32, "m", "2"), 12.0, **given)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(browser.opened(tmp_path_factory.mktemp("profile")))
        except browser.EndedError:
            pytest.skip(f"{browser.find()} does not start here")
        yield opened


@pytest.mark.parametrize("width", [390, 800, 1200])
def test_nothing_is_asked_for_and_no_text_is_cut_or_lies_on_another(page: Browser, report: Path, width: int) -> None:
    page.show(report, width)
    assert page.ask(MISPLACED) == []
    assert page.ask("document.documentElement.scrollWidth") <= width
    assert page.requests == [report.resolve().as_uri()]
    assert page.complaints == []


def test_light_dark_and_paper_can_be_read(page: Browser, report: Path) -> None:
    grounds = set()
    for dark, media in ((False, "screen"), (True, "screen"), (True, "print")):
        page.show(report, 800, dark, media)
        assert page.ask(CONTRAST) >= 4.5, (dark, media)
        grounds.add((dark, media, page.ask("getComputedStyle(document.body).backgroundColor")))
    white = "rgb(255, 255, 255)"
    assert {ground for ground in grounds if ground[2] == white} == {
        (False, "screen", white), (True, "print", white)
    }  # fmt: skip
    assert len(page.call("Page.printToPDF")["data"]) > 10_000


def test_a_script_that_found_its_way_in_would_not_run(page: Browser, report: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "report.html"
    spoilt.write_text(
        report.read_text().replace("</body>", "<script>document.title = 'run'</script><img src=x></body>")
    )
    page.show(spoilt, 800)
    assert page.ask("document.title") != "run"
    assert len(page.complaints) >= 2
    assert page.refused == ["csp"]
