"""results/report.html in a real browser: what a data manager does with it, and what files try to do to it."""

from __future__ import annotations

import base64
import io
from itertools import pairwise

import pytest
from browser import SCREENSHOTS, browser, open_tab  # noqa: F401
from pages import HOSTILE, record_of, some
from PIL import Image
from runs import FIELDS
from test_report import decided, row

from dcorflow.config import resolve_config
from dcorflow.files import to_json, write_text
from dcorflow.records import save_record
from dcorflow.report.page import write_page
from dcorflow.report.summary import Summary
from dcorflow.workdir import Workdir

#: Names, status, events and number of violations of the measurements of the page.
MADE = {
    "blood_01": ("ready", 5000, 0),
    "blood_02": ("ready", 300, 2),
    "blood_10": ("ready", 20, 0),
    "beads_01": ("excluded", 40, 0),
    "beads_02": ("failed", 0, 1),
    "beads_03": ("in progress", 0, 0),
    "beads_04": ("gone", 7, 0),
}
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' class='portrait scatter' viewBox='0 0 400 280'>"
    "<rect class='bar' x='10' y='10' width='80' height='60' fill='#2f7fc1'/></svg>"
)
HOSTILE_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' class='portrait scatter' "
    "viewBox='0 0 400 280' role='img' aria-label='x' onload='hacked=1'><script>window.hacked=2</script>"
    "<style>body{display:none}</style>"
    "<foreignObject><iframe src='http://127.0.0.1:9/x'></iframe></foreignObject>"
    "<image href='http://127.0.0.1:9/y.png' width='9' height='9'/>"
    "<a href='javascript:alert(1)'><text>t</text></a>"
    "<path d='M0 0h400' stroke='url(http://127.0.0.1:9/z#a)' onclick='alert(1)'/>"
    "<rect class='bar' x='10' y='10' width='80' height='60' fill='#2f7fc1'/></svg>"
)


def thumbnail():
    stream = io.BytesIO()
    Image.new("RGBA", (160, 120), (47, 127, 193, 255)).save(stream, "WebP")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def settings(folder):
    return resolve_config({"input": {"root": str(folder)}, "datasets": {"defaults": dict(FIELDS)}}, folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Give the page of two datasets with measurements in every status, and one with a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    work = Workdir(folder / "work")
    rows = []
    for name, (status, events, violations) in MADE.items():
        save_record(work, record_of(name))
        markup = HOSTILE_SVG if name == "blood_01" else SVG
        picture = {"id": "scatter", "title": HOSTILE, "alt": HOSTILE, "svg": markup}
        drawn = {
            "format": 1, "key": "k", "events": 8, "sampled": 4, "flags": [], "missing": [HOSTILE],
            "thumbnail": thumbnail(), "pictures": [picture],
        }  # fmt: skip
        write_text(work.portrait(name), to_json(drawn))
        values = {"measurement": name, "events": events, "violations": violations, "alerts": 0}
        values["gaps"] = 2 * (name == "beads_02")
        dataset = name.partition("_")[0]
        reason = "" if status == "ready" else f"why {name}"
        rows.append(row(f"{dataset}/{name}.rtdc", status, reason, dataset=dataset, **values))
    rows.append(row(f"odd/{HOSTILE}.rtdc", "failed", HOSTILE, dataset="odd", measurement="odd", note=HOSTILE))
    datasets = [
        decided("blood", "ready", "Blood of mice", reason=""),
        decided("beads", "incomplete", "Beads", warnings=["a warning"]),
        decided("odd", "blocked", HOSTILE, reason=HOSTILE, warnings=[HOSTILE]),
    ]
    write_page(work, settings(folder), Summary(rows, datasets, [HOSTILE]), [], 12.0)
    return work.page


@pytest.fixture
def tab(open_tab, page):  # noqa: F811
    return open_tab(page)


class TestOpening:
    def test_without_complaints_and_without_the_network(self, tab, page):
        assert tab.open("blood_02").locator("svg.portrait rect.bar").is_visible()
        assert tab.complaints == []
        assert tab.requests == [page.as_uri()]

    def test_says_what_there_is(self, tab):
        assert "8" in tab.page.locator(".tiles > div").first.inner_text()
        assert tab.page.locator("li.card").count() == 3
        assert tab.page.locator("figure svg").count() == 4
        assert len(tab.rows()) == 8
        assert tab.count() == "1 to 8 of 8 measurements"

    def test_hostile_text_is_shown_and_not_run(self, tab):
        details = tab.open("odd")
        assert "</script><script>alert(1)</script>" in details.inner_text()
        assert "</script><script>alert(1)</script>" in tab.page.locator("#datasets").inner_text()
        assert tab.page.evaluate("document.querySelectorAll('img[onerror], main script').length") == 0
        assert tab.complaints == []

    def test_hostile_pictures_are_harmless(self, tab, page):
        details = tab.open("blood_01")
        assert details.locator("svg.portrait rect.bar").is_visible()
        found = details.evaluate(
            "box => [...box.querySelectorAll('svg *, svg')]"
            ".flatMap(e => [e.localName, ...e.getAttributeNames()])"
        )
        bad = {"script", "style", "foreignobject", "iframe", "a", "onload", "onclick", "href", "stroke"}
        assert bad.isdisjoint({name.lower() for name in found})
        assert tab.page.evaluate("window.hacked") is None
        assert tab.requests == [page.as_uri()]

    def test_without_scripts_it_still_tells(self, open_tab, page):  # noqa: F811
        tab = open_tab(page, java_script_enabled=False)
        assert tab.page.locator("li.card").count() == 3
        assert "summary.tsv" in tab.page.locator("noscript").inner_text()


class TestTable:
    def test_sorting(self, tab):
        events = tab.page.get_by_role("button", name="Events", exact=False).first
        for direction, first in (("ascending", None), ("descending", "blood_01.rtdc")):
            events.click()
            tab.page.wait_for_selector(f"#table th.events[aria-sort={direction}]")
            cells = tab.page.locator("#table tbody td.events").all_inner_texts()
            numbers = [int(c.replace(",", "") or 0) for c in cells]
            assert numbers == sorted(numbers, reverse=direction == "descending")
            assert first is None or tab.rows()[0] == first

    def test_what_needs_attention_comes_first(self, tab):
        failed, odd, *others = tab.rows()  # both failed, the first with a violation as well
        assert failed == "beads_02.rtdc"
        assert odd.startswith("script><img src=x")
        assert others == [
            *("blood_02.rtdc", "beads_03.rtdc"),
            *("beads_01.rtdc", "beads_04.rtdc", "blood_01.rtdc", "blood_10.rtdc"),
        ]

    @pytest.mark.parametrize(
        ("field", "value", "names"),
        [
            ("text", "BLOOD 0", ["blood_01", "blood_02", "blood_10"]),
            ("text", "why beads_04", ["beads_04"]),
            ("text", "nothing like this", []),
            ("status", "ready", ["blood_01", "blood_02", "blood_10"]),
            ("dataset", "Beads", ["beads_01", "beads_02", "beads_03", "beads_04"]),
            ("level", "violations", ["blood_02"]),
            ("level", "violations in the check", ["beads_02", "blood_02"]),
            ("level", "metadata to fill in", ["beads_02"]),
            ("level", "private texts", []),
        ],
    )
    def test_filters(self, tab, field, value, names):
        if field == "text":
            tab.page.get_by_role("searchbox").fill(value)
        else:
            tab.page.locator(f"select[name={field}]").select_option(label=value)
        tab.await_count(f"(of {len(MADE) + 1})")
        assert sorted(tab.rows()) == [f"{name}.rtdc" for name in names]
        tab.page.get_by_role("button", name="Clear").click()
        tab.await_count(f"of {len(MADE) + 1} measurements")
        assert len(tab.rows()) == len(MADE) + 1

    def test_links_show_the_measurements_they_speak_of(self, tab):
        tab.page.locator("#attention a[data-show*=failed]").first.click()
        tab.await_count("of 2 measurements")
        assert "beads_02.rtdc" in tab.rows()
        tab.page.locator("#dataset-blood a[data-show]").click()
        tab.await_count("of 3 measurements")
        assert all(name.startswith("blood") for name in tab.rows())

    def test_a_row_opens_and_closes(self, tab):
        details = tab.open("blood_02")
        button = tab.page.get_by_role("button", name="blood_02", exact=False).first
        assert button.get_attribute("aria-expanded") == "true"
        text = details.inner_text()
        for words in (
            "Metadata: bad",
            "fill" if "fill" in text else "correct",
            "sheet: s.xlsx row 2",
            "defective",
        ):
            assert words in text
        details.get_by_text("Compression").click()
        assert "events/deform" in details.inner_text()
        button.click()
        assert details.count() == 0
        assert button.get_attribute("aria-expanded") == "false"

    def test_pictures_grow_when_asked(self, tab):
        details = tab.open("blood_02")
        small = details.locator("svg.portrait").bounding_box()
        details.locator("button.picture").click()
        dialog = tab.page.locator("dialog.large")
        assert dialog.locator("svg").bounding_box()["width"] > 2 * small["width"]
        tab.page.keyboard.press("Escape")
        assert not dialog.is_visible()

    def test_five_thousand_rows(self, open_tab, tmp_path):  # noqa: F811
        work = Workdir(tmp_path / "work")
        rows = [
            row(f"d{n % 40}/M{n:04d}.rtdc", dataset=f"d{n % 40}", events=n + 1, alerts=0) for n in range(5000)
        ]
        write_page(work, settings(tmp_path), Summary(rows, [decided(f"d{n}") for n in range(40)]), [])
        tab = open_tab(work.page)
        assert tab.count() == "1 to 50 of 5,000 measurements"
        assert len(tab.rows()) == 50
        tab.page.get_by_role("searchbox").fill("M4999")
        tab.await_count("1 to 1 of 1 measurement")
        assert tab.rows() == ["M4999.rtdc"]
        tab.open("M4999")
        tab.page.get_by_role("button", name="Clear").click()
        events = tab.page.get_by_role("button", name="Events", exact=False).first
        for direction in ("ascending", "descending"):
            events.click()
            tab.page.wait_for_selector(f"#table th.events[aria-sort={direction}]")
        assert tab.rows()[0] == "M4999.rtdc"
        assert tab.complaints == []


class TestKeyboard:
    def test_everything_is_reached_and_worked_without_a_mouse(self, tab):
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate("document.activeElement.className") == "skip"
        tab.page.keyboard.press("Enter")
        seen = []
        for _ in range(40):
            tab.page.keyboard.press("Tab")
            seen.append(tab.page.evaluate("document.activeElement.name || document.activeElement.className"))
            if seen[-1] == "open":
                break
        filters = ("text", "status", "dataset", "level")
        assert tuple(name for name in seen if name in filters) == filters
        assert seen.count("dt-column-order") == 7
        tab.page.keyboard.press("Enter")
        tab.page.locator("section.opened").wait_for()
        outline = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        tab.page.keyboard.press("Enter")
        assert tab.page.locator("section.opened").count() == 0

    def test_the_order_is_changed_by_keys(self, tab):
        tab.page.get_by_role("button", name="Events", exact=False).first.focus()
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#table th.events[aria-sort=ascending]")


#: Ratio of luminances of text and ground of every visible text (W3C, WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const a = top[3] ?? 1;
    return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a));
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = parse(getComputedStyle(element).backgroundColor);
    return (own[3] ?? 1) === 1 && own.length ? own : over(own, ground(element.parentElement));
  };
  const light = (c) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, .skip, .disabled, title")) continue;
    const style = getComputedStyle(element);
    const back = ground(element);
    const front = over(parse(element.closest("svg") ? style.fill : style.color), back);
    const [high, low] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) bad.push(`${walk.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""

#: What is wider than its place: text that is cut off, or boxes that reach beyond the window.
TOO_WIDE = """() => [...document.querySelectorAll("main *, header *, footer *")].filter((e) => {
  if (!e.checkVisibility() || e.closest(".scroll, .hidden, svg, .skip, noscript")) return false;
  const box = e.getBoundingClientRect();
  return box.right > innerWidth + 1 || box.left < -1 || (e.clientWidth && e.scrollWidth > e.clientWidth + 2);
}).map((e) => `${e.localName}.${e.className}: ${e.textContent.slice(0, 40)}`)"""

#: Boxes of one kind that lie on each other.
OVERLAPS = """(selector) => {
  const shown = [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
  const boxes = shown.map((e) => [e, e.getBoundingClientRect()]);
  const bad = [];
  for (const [a, p] of boxes) for (const [b, q] of boxes) {
    if (a === b || a.contains(b) || b.contains(a)) continue;
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 1 && high > 1) bad.push(a.className);
  }
  return bad;
}"""


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_looks(open_tab, page, width, scheme):  # noqa: F811
    tab = open_tab(page, viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.open("blood_02")
    tab.page.locator("section.opened details").evaluate_all("all => all.forEach((d) => { d.open = true; })")
    tab.page.locator(".card details").evaluate_all("all => all.forEach((d) => { d.open = true; })")
    SCREENSHOTS.mkdir(exist_ok=True)
    picture = SCREENSHOTS / f"report-{width}-{scheme}.png"
    tab.page.screenshot(path=picture, full_page=True)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == width
    assert tab.page.evaluate(TOO_WIDE) == []
    for selector in (".tiles > div", ".card", "figure", "#table td, #table th", ".filters > *", "main > *"):
        assert tab.page.evaluate(OVERLAPS, selector) == [], selector
    assert tab.page.evaluate(CONTRAST) == []
    with Image.open(picture) as image:
        corner = image.convert("L").getpixel((2, 2))
    assert (corner < 60) == (scheme == "dark")


def test_printed(tab):
    tab.page.emulate_media(media="print")
    tab.open("blood_01")
    assert not tab.page.locator(".filters").is_visible()
    tab.page.set_viewport_size({"width": 700, "height": 1000})  # an A4 sheet between its margins
    widths = tab.page.locator("#table td.measurement").evaluate_all("all => all.map((e) => e.offsetWidth)")
    assert min(widths) > 180, "names have room"
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 700
    assert tab.page.evaluate(CONTRAST) == []
    pdf = tab.page.pdf(path=SCREENSHOTS / "report.pdf") if SCREENSHOTS.is_dir() else tab.page.pdf()
    assert pdf.startswith(b"%PDF")


def test_all_rows_are_printed(open_tab, tmp_path):  # noqa: F811
    work = Workdir(tmp_path / "work")
    summary = Summary([row(f"a/M{n}.rtdc") for n in range(120)], [decided()])
    write_page(work, settings(tmp_path), summary, [])
    tab = open_tab(work.page)
    assert len(tab.rows()) == 50
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(tab.rows()) == 120
    tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(tab.rows()) == 50


#: Names that assistive software would speak, and those that are missing.
NAMELESS = """() => {
  const kinds = "a, button, input, select, [role=button], [role=img], dialog, nav, section, table, summary";
  const named = (e) => e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")
    || (e.labels && e.labels.length) || (e.caption && e.caption.textContent)
    || (e.matches("a, button, summary") && e.textContent.trim()) || e.matches(".grid");
  const all = [...document.querySelectorAll(kinds)];
  return all.filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML.slice(0, 120));
}"""


def test_accessible_names_and_structure(tab):
    tab.open("blood_02")
    assert tab.page.evaluate(NAMELESS) == []
    assert tab.page.locator("html").get_attribute("lang") == "en"
    assert tab.page.locator("img:not([alt])").count() == 0
    levels = tab.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.localName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    for role in ("banner", "main", "contentinfo", "search", "status"):
        assert tab.page.get_by_role(role).count() == 1, role
    ids = tab.page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    labelled = tab.page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby]')].map((e) => e.getAttribute('aria-labelledby'))"
    )
    assert set(labelled) <= set(ids)


def test_a_page_of_nothing(open_tab, tmp_path):  # noqa: F811
    work = Workdir(tmp_path / "work")
    write_page(work, settings(tmp_path), Summary(), ["dcorflow: no such folder"])
    tab = open_tab(work.page)
    assert tab.complaints == []
    assert "no such folder" in tab.page.locator("#attention").inner_text()
    assert "nothing was found" in tab.page.locator("#table").inner_text()


def test_details_without_room_say_where_they_are(open_tab, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("dcorflow.report.page.PACKED", 0)
    work = Workdir(tmp_path / "work")
    write_page(work, settings(tmp_path), some(work, 1), [])
    tab = open_tab(work.page)
    assert "in its record" in tab.open("m00000").inner_text()
