"""The page: one file that loads nothing, whose every number is its JSON's, and which can be read, by eyes and by keyboard.

In a browser it is driven by Playwright. Where no Chromium is found these tests say so and are skipped; ``.ci/run`` installs one, and
fails if they were.
"""

from __future__ import annotations

import functools
import html
import html.parser
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from npresnet import study
from npresnet.kernels import conv2d_reference
from npresnet.study.forms import FORMS, at, plain, shown
from npresnet.study.ladder import of_subject
from npresnet.study.layers import UNITS
from npresnet.study.page import gather, render
from npresnet.study.rungs import RUNGS, Rung
from npresnet.study.subject import subject_of

pytest.importorskip("jinja2")

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module", autouse=True)
def quick(studied_once):
    """What does not depend on the network is studied once."""
    patch = pytest.MonkeyPatch()
    for name in ("watch", "asm"):
        patch.setattr(sys.modules["npresnet.study.page"], name, getattr(study, name))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def book(net, images):
    return gather(net, images, "thin.h5", "noise.npy", "res2a_branch2a", timing=True)


@pytest.fixture(scope="module")
def text(book, images):
    return render(book, images[0])


class Keyed(html.parser.HTMLParser):
    """Everything in a page: (key, form, text) of what is keyed; attributes; the JSON; text that stands outside of keys, by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.loose: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._data = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "input", "line", "circle", "rect", "polyline", "br", "link"):
            self._open.append((tag, {name: value or "" for name, value in attrs}))
            if "data-key" in dict(attrs):
                self.numbers.append((dict(attrs)["data-key"], dict(attrs)["data-form"], ""))

    def handle_endtag(self, tag):
        if tag in ("line", "circle", "rect", "polyline"):
            return
        while self._open:
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        if not self._open:
            return
        tag, attributes = self._open[-1]
        if attributes.get("id") == "data":
            self._data += data
        elif "data-key" in attributes:
            key, form, before = self.numbers[-1]
            self.numbers[-1] = (key, form, before + data)
        elif data.strip():
            self.loose.append((tag, data))

    @property
    def json(self):
        return json.loads(self._data)


@pytest.fixture(scope="module")
def parsed(text):
    return Keyed(text)


# P1: one file --------------------------------------------------------------------------------------------------------


def test_it_is_one_small_file_that_loads_nothing(text, parsed):
    assert len(text.encode()) < 3_000_000
    for _tag, name, value in parsed.attributes:
        if name in ("src", "href", "srcset", "action", "data"):
            assert value.startswith(("#", "data:image/png;base64,")), (name, value[:40])
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    assert not re.search(r"\bfetch\b|\bimport\b|XMLHttpRequest|WebSocket|https?:", script[0])
    assert len(script[0].splitlines()) < 400
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert ("meta", "content", policy) in parsed.attributes
    assert {"link", "iframe", "object", "base"}.isdisjoint(parsed.tags)


# P5: text = JSON = recomputed ----------------------------------------------------------------------------------------


def wrong_numbers(parsed):
    data = parsed.json
    return [key for key, form, words in parsed.numbers if words != shown(form, at(data, key))]


def test_every_number_is_the_jsons(parsed, book):
    assert len(parsed.numbers) > 2000
    assert wrong_numbers(parsed) == []
    assert parsed.json == plain(book)
    assert {form for _, form, _ in parsed.numbers} <= set(FORMS)


def test_no_number_stands_in_a_table_or_picture_without_its_key(parsed):
    for tag, words in parsed.loose:
        if tag in ("td", "text"):
            assert not re.search(r"\d", words), (tag, words)


def test_the_jsons_numbers_are_numpys(net, images, parsed):
    """By nothing but NumPy and the network's own outputs: windows, im2col, maps, errors, costs."""
    data = parsed.json
    name = data["window"]["layer"]
    subject, y = subject_of(net, images, name), net(images, outputs=[name])[name][0]
    x, w = np.pad(subject.x[0], ((1, 1), (1, 1), (0, 0))).astype(np.float64), subject.w.astype(np.float64)
    part, co = data["region"], data["region"]["co"]
    for oh in range(len(part["engine"])):
        for ow in range(len(part["engine"][0])):
            total = (x[oh : oh + 3, ow : ow + 3] * w[..., co]).sum()
            assert part["totals"][oh][ow] == pytest.approx(total + part["bias"])
            assert np.float32(part["engine"][oh][ow]) == y[oh, ow, co]
    assert np.array_equal(np.array(part["x"], np.float32), x[: len(part["x"]), : len(part["x"][0])].astype(np.float32))
    assert np.array_equal(np.array(part["kernel"], np.float32), subject.w[..., co])
    for sheet in data["maps"]["sheets"]:
        map_ = net(images, outputs=[sheet["layer"]])[sheet["layer"]][0]
        assert np.float32(sheet["largest"]) == map_.max()
        assert sheet["zeros"] == np.mean(map_ == 0)
    layer = next(row for row in data["layers"]["rows"] if row["name"] == name)
    assert layer["mac"] == y.size * w[..., 0].size
    flops = [row for row in data["ladder"]["rows"] if row["timing"]]
    assert all(row["gflops"] * 1e9 * row["timing"]["seconds"] == pytest.approx(row["flop"]) for row in flops)


# P6: it can fail -----------------------------------------------------------------------------------------------------


def test_a_number_that_was_edited_is_caught(text, parsed):
    key, form, words = next(entry for entry in parsed.numbers if entry[0].startswith("region.totals"))
    span = f'data-key="{key}" data-form="{form}">{html.escape(words)}<'
    assert span in text
    edited = text.replace(span, span.replace(words, "123.4"))
    assert wrong_numbers(Keyed(edited)) == [key]


def test_a_rung_that_is_wrong_is_named(net, images, monkeypatch):
    def off(x, w, bias, *, threads=1, **options):
        return conv2d_reference(x, w, bias, **options) + np.float32(1e-3)

    versions = (Rung("off", "", off), *RUNGS)
    monkeypatch.setattr(
        sys.modules["npresnet.study.page"], "ladder_of", functools.partial(of_subject, versions=versions)
    )
    found = gather(net, images, "w", "i", "res2a_branch2a", timing=False)
    assert [problem.split(":")[0] for problem in found.ladder.problems] == ["off"]
    assert "disagrees with float64" in render(found, images[0])


def test_a_spill_turns_its_row_red(book, images):
    assert '<tr class="spill">' not in render(book, images[0])
    first, *others = book.asm[0].instructions
    spilled = [replace(first, text="vmovaps %zmm4, 128(%rsp)", role="spill"), *others]
    found = replace(book, asm=[replace(book.asm[0], instructions=spilled), *book.asm[1:]])
    assert re.search(r'<tr class="spill">\s*<td[^>]*><span[^>]*>spill</span>', render(found, images[0]))


# P7: names are text --------------------------------------------------------------------------------------------------


def test_hostile_names_are_text(book, images):
    """In tables, pictures, the JSON, the title."""
    evil = json.loads(json.dumps(plain(book)).replace("res2a_branch2a", EVIL).replace("thin.h5", EVIL))
    renamed = _rebuilt(book, evil)
    text = render(renamed, images[0])
    assert EVIL not in text
    assert html.escape(EVIL) in text
    found = Keyed(text)
    assert found.tags.count("script") == 2
    assert not [name for _tag, name, _value in found.attributes if name.startswith("onerror")]
    assert wrong_numbers(found) == []
    assert found.json["window"]["layer"] == EVIL


def _rebuilt(book, data):
    """A book of the same kind of objects, whose texts are those of ``data``."""

    def rebuilt(old, new):
        if isinstance(new, dict) and hasattr(old, "__dataclass_fields__"):
            return replace(old, **{name: rebuilt(getattr(old, name), value) for name, value in new.items()})
        if isinstance(new, dict):
            return {key: rebuilt(old[key], value) if key in old else value for key, value in new.items()}
        if isinstance(old, list | tuple) and isinstance(new, list):
            return type(old)(map(rebuilt, old, new))
        return new if isinstance(new, str) else old

    return rebuilt(book, data)


# P8: the same again --------------------------------------------------------------------------------------------------


def test_without_timing_the_same_bytes(net, images):
    """And of a layer that is no 3x3."""
    books = [gather(net, images, "w", "i", "conv1", timing=False) for _ in range(2)]
    first, second = (render(found, images[0]) for found in books)
    assert first == second
    assert "Nothing was timed" in first
    assert books[0].winograd == []
    assert "winograd" in books[0].without
    assert wrong_numbers(Keyed(first)) == []


def test_timings_say_what_they_are(parsed):
    data = parsed.json
    keys = {key for key, _, _ in parsed.numbers}
    assert {"layers.ceilings.machine", "layers.ceilings.threads", "layers.run.repeats", "layers.run.quartiles"} <= keys
    timed = [row["timing"] for row in data["layers"]["rows"] + data["ladder"]["rows"] if row["timing"]]
    assert all(timing["repeats"] >= 2 and timing["quartiles"][0] <= timing["seconds"] for timing in timed)


def test_units_are_defined(text):
    assert UNITS in text


# In a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or Playwright's own. NPRESNET_BROWSER=required: none is a failure."""
    lacking = pytest.fail if os.environ.get("NPRESNET_BROWSER") == "required" else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("Playwright is not installed: the page is not looked at in a browser")
    with sync_playwright() as driver:
        own = driver.chromium.executable_path
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", own))), None)
        if found is None:
            lacking("no Chromium is found: the page is not looked at in a browser")
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "study.html"
    path.write_text(text, encoding="utf-8")
    return path


def opened(browser, path, width=1280, scheme="light", **options):
    """The page, with every request but the file's own aborted; what went wrong is in ``page.noted``."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    page = context.new_page()
    noted = []
    page.on("console", lambda message: noted.append(message.text))
    page.on("pageerror", lambda error: noted.append(str(error)))
    page.on("requestfailed", lambda request: noted.append(request.url[:80]))
    page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    page.goto(path.as_uri())
    return SimpleNamespace(page=page, noted=noted, close=context.close)


def test_opened_offline(browser, path):
    """P2."""
    seen = opened(browser, path)
    assert seen.noted == []
    ids = seen.page.eval_on_selector_all("main section", "all => all.map(e => e.id)")
    assert ids == ["layers", "window", "ladder", "winograd", "errors", "memory", "maps", "watch", "asm"]
    assert all(seen.page.locator(f"#{name}").inner_text() for name in ids)
    seen.close()


LEGIBLE = """() => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const rgb = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => { const f = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const back = (e) => { const layers = []; for (; e; e = e.parentElement) layers.push(rgb(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255, 1]); };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || e.closest('script, style') || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e.closest('svg');
    const size = parseFloat(style.fontSize) * (svg ? svg.getBoundingClientRect().width / svg.width.baseVal.value : 1);
    if (size < (e.closest('.im2col') ? 10 : 12)) bad.push(['small', size, text.slice(0, 30)]);
    const ink = rgb(svg ? style.fill : style.color), paper = back(e), on = over(ink, paper);
    const [a, b] = [light(on), light(paper)].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) bad.push(['pale', ((a + .05) / (b + .05)).toFixed(2), text.slice(0, 30), e.className]);
  }
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([text, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1) bad.push(['clipped', text]);
      boxes.slice(i + 1).forEach(([other, s]) => {
        if (r.left < s.right && s.left < r.right && r.top < s.bottom && s.top < r.bottom) bad.push(['overlap', text, other]);
      });
    });
  }
  return bad;
}"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(browser, path, width, scheme):
    """P3: nothing wider than the window, no text too small or too pale, no label over another."""
    seen = opened(browser, path, width, scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen.page.evaluate(LEGIBLE) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # with everything unfolded, too
    seen.close()


def test_by_keyboard_alone(browser, path):
    """P4: Tab comes to every control, with a focus that is seen; arrows step."""
    seen = opened(browser, path)
    page = seen.page
    wanted = page.eval_on_selector_all(
        "a[href], button, input, select, summary, [tabindex='0']",
        "all => all.filter(e => e.checkVisibility()).length",
    )
    reached = page.evaluate("""() => {
      window.reached = new Set(); window.unseen = [];
      document.addEventListener('focusin', e => { reached.add(e.target);
        const s = getComputedStyle(e.target); if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) unseen.push(e.target.outerHTML.slice(0, 80)); });
      return reached.size; }""")
    assert reached == 0
    for _ in range(wanted + 3):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") == wanted
    assert page.evaluate("unseen") == []

    page.focus("#window-at")
    before = page.inner_text("#window-where")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert before == "row 0, column 0"
    assert page.inner_text("#window-where") == "row 1, column 1"
    page.focus("#cell")
    words = page.inner_text("#cell-words")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#cell-words") != words
    seen.close()


def test_numbers_that_the_script_shows_are_the_jsons(browser, path, parsed):
    """All windows and some channels, stepped through: text = JSON in the same form."""
    seen = opened(browser, path)
    data = parsed.json
    for position, channel in ((0, "0"), (7, "3"), (20, "31"), (35, "5")):
        seen.page.evaluate(
            f"""() => {{ const s = document.querySelector('#window-at'), c = document.querySelector('#window-channel');
            c.value = '{channel}'; c.dispatchEvent(new Event('change')); s.value = {position}; s.dispatchEvent(new Event('input')); }}"""
        )
        cells = seen.page.eval_on_selector_all(
            "#window [data-key]", "all => all.map(e => [e.dataset.key, e.dataset.form, e.textContent])"
        )
        assert len(cells) > 300
        assert [key for key, form, words in cells if words != shown(form, at(data, key))] == []
        lit = seen.page.eval_on_selector_all("#im2col tr", "all => all.map(e => e.classList.contains('lit'))")
        assert [number for number, on in enumerate(lit) if on] == [position]
    seen.close()


BOXES = """() => Object.fromEntries([['cell', '.cellbox'], ['photo', '.box']].map(([id, box]) => {
  const a = document.querySelector(`#${id} img`).getBoundingClientRect(), b = document.querySelector(`#${id} ${box}`).getBoundingClientRect();
  return [id, [(b.top - a.top) / a.height, (b.bottom - a.top) / a.height, (b.left - a.left) / a.width, (b.right - a.left) / a.width]]; }))"""
"""Where the boxes are drawn, in parts of their pictures: top, bottom, left, right."""


def test_boxes_of_cells_are_receptive_fields(browser, path, net, images):
    seen = opened(browser, path)
    height, width = images.shape[1:3]
    for number, feature in enumerate(("C1", "C2", "C3", "C4", "C5")):
        seen.page.evaluate(f"document.querySelector('[data-sheet=\"{number}\"]').click()")
        words = seen.page.inner_text("#cell-words")
        cell = re.search(r"cell (\d+), (\d+)", words)
        field = study.receptive_field(net, feature, (height, width))
        top, bottom, left, right = field.box(int(cell[1]), int(cell[2]), (height, width))
        assert f"rows {top} to {bottom - 1}, columns {left} to {right - 1}" in words
        shape = (
            next(sheet for sheet in study.maps(net, images).sheets if sheet.feature == feature)
            .channels[0]
            .thumbnail.shape
        )
        row, column = int(cell[1]), int(cell[2])
        drawn = seen.page.evaluate(BOXES)
        assert drawn["cell"] == pytest.approx(
            [row / shape[0], (row + 1) / shape[0], column / shape[1], (column + 1) / shape[1]], abs=0.02
        )
        assert drawn["photo"] == pytest.approx([top / height, bottom / height, left / width, right / width], abs=0.02)
    seen.close()


OUTLINES = """(number) => { const element = document.querySelectorAll('.recording')[number]; return [...element.querySelectorAll('.cells')].map(grid => {
  const frame = grid.querySelector('b'); if (frame.hidden) return null;
  const cells = [...grid.querySelectorAll('i')], box = frame.getBoundingClientRect();
  const inside = cells.map((cell, n) => [n, cell.getBoundingClientRect()]).filter(([, c]) =>
    c.left > box.left && c.right < box.right && c.top > box.top && c.bottom < box.bottom).map(([n]) => n);
  return [inside[0], inside.at(-1), inside.length]; }); }"""
"""Of each array of a recording: the first and the last cell within its outline, and how many these are; null where there is none."""


def test_pieces_are_outlined(browser, path, parsed):
    """Around exactly the cells that the JSON says; by a button, which the keyboard reaches, from piece to piece."""
    seen = opened(browser, path)
    for number, recording in enumerate(parsed.json["watch"]):
        element = seen.page.locator(".recording").nth(number)
        for _ in range(3):
            element.locator(".next").press("Enter")
        words = element.locator(".piece").inner_text()
        piece = recording["pieces"][int(words.removeprefix("number ")) - 1]
        assert int(element.locator(".seek").input_value()) in (piece["first"], len(recording["accesses"]) - 1)
        drawn = seen.page.evaluate(OUTLINES, number)
        for array, box, found in zip(recording["arrays"], piece["boxes"], drawn, strict=True):
            if box is None:
                assert found is None
                continue
            top, bottom, left, right = box
            width = array["columns"]
            assert found == [top * width + left, (bottom - 1) * width + right - 1, (bottom - top) * (right - left)]
    seen.close()


def test_without_scripts_all_tables_remain(browser, path, parsed):
    seen = opened(browser, path, java_script_enabled=False)
    page = seen.page
    assert page.locator("table").count() == parsed.tags.count("table")
    assert page.locator("#window-patch td").first.inner_text() != ""
    assert page.locator(".needs-script").first.is_visible() is False
    assert page.locator(".sheet img").count() == 5 * 16
    seen.close()


def test_who_wants_less_motion_steps(browser, path):
    moving, still = (opened(browser, path, reduced_motion=motion) for motion in ("no-preference", "reduce"))
    for seen in (moving, still):
        seen.page.click(".play >> nth=0")
    moving.page.wait_for_function("Number(document.querySelector('.seek').value) > 3")
    assert still.page.input_value(".seek >> nth=0") == "1"
    moving.close()
    still.close()
