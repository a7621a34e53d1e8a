"""results/report.html without a browser: when it is written, what stands in it, and how large it gets."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from pages import HOSTILE, record_of, some
from runs import FIELDS
from test_report import decided, row

from dcorflow.config import resolve_config
from dcorflow.files import read_json, write_text
from dcorflow.records import save_record
from dcorflow.report import page as page_module
from dcorflow.report.attention import find_points, level_of
from dcorflow.report.cards import make_cards
from dcorflow.report.charts import WIDTH, events_chart, timeline_chart
from dcorflow.report.details import details_of, lead_of
from dcorflow.report.page import write_page
from dcorflow.report.shelf import Shelf, Subject, stats_of
from dcorflow.report.summary import Summary
from dcorflow.report.words import private_kinds
from dcorflow.workdir import Workdir


@pytest.fixture
def work(tmp_path):
    return Workdir(tmp_path / "work")


@pytest.fixture
def config(tmp_path):
    settings = {"input": {"root": str(tmp_path)}, "datasets": {"defaults": dict(FIELDS)}}
    return resolve_config(settings, tmp_path)


class Scripts(HTMLParser):
    """Collects tags, and the text of script elements by id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self._open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._open = dict(attrs).get("id", "")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.scripts[self._open] = self.scripts.get(self._open, "") + data


def read(work):
    return Scripts(work.page.read_text(encoding="utf-8"))


def unpacked(text):
    return json.loads(zlib.decompress(base64.b64decode(text), -15))


class TestWriting:
    def test_again_writes_nothing(self, work, config):
        summary = some(work, 3)
        assert write_page(work, config, summary, [], 1.0)
        before = work.page.stat().st_ino
        assert not write_page(work, config, summary, [], 2.0)
        assert not write_page(work, config, summary)
        assert work.page.stat().st_ino == before

    def test_a_lost_or_altered_page_comes_back(self, work, config):
        summary = some(work, 1)
        write_page(work, config, summary, [])
        work.page.write_text("gone", encoding="utf-8")
        assert write_page(work, config, summary, [])
        work.page.unlink()
        assert write_page(work, config, summary, [])
        assert "dcorflow" in work.page.read_text(encoding="utf-8")

    def test_only_what_changed_is_read_again(self, work, config):
        summary = some(work, 5)
        write_page(work, config, summary, [])
        save_record(work, record_of("m00002", metadata={"setup:medium": "other"}))
        shelf = Shelf(work, stats_of(work.records), stats_of(work.portraits))
        shelf.leads(m["measurement"] for m in summary.measurements)
        assert shelf.read == 1
        packed = shelf.pack([Subject(m["measurement"]) for m in summary.measurements], 10**6)
        assert len(packed) == 5
        assert shelf.read == 2  # once for its lead, once for its details

    def test_the_trouble_of_the_last_run_is_told_until_it_is_over(self, work, config):
        summary = some(work, 1)
        write_page(work, config, summary, ["a job failed"], 1.0)
        assert "a job failed" in work.page.read_text(encoding="utf-8")
        assert not write_page(work, config, summary)
        assert write_page(work, config, summary, [], 1.0)
        assert "a job failed" not in work.page.read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", ["leads.jsonl", "details.jsonl", "page.json"])
    def test_damaged_caches_are_made_again(self, work, config, name):
        summary = some(work, 2)
        write_page(work, config, summary, [])
        good = read(work).scripts["d0"]
        write_text(work.state / "report" / name, '["m00000"\nnull\n{}\n')
        work.page.unlink()
        assert write_page(work, config, summary, [])
        assert read(work).scripts["d0"] == good

    def test_portraits_that_belong_to_nothing_are_removed(self, work, config):
        summary = some(work, 3)
        del summary.measurements[1:]  # one has its record only, one neither record nor row
        work.record("m00002").unlink()
        write_page(work, config, summary, [])
        assert sorted(path.stem for path in work.portraits.iterdir()) == ["m00000", "m00001"]

    def test_before_anything_was_found(self, work, config):
        assert write_page(work, config, Summary(), [])
        assert json.loads(read(work).scripts["data"])["rows"] == []


class TestContent:
    def test_details_hold_everything(self, work, config):
        write_page(work, config, some(work, 1), [])
        shown = unpacked(read(work).scripts["d0"])
        [cue] = shown["cues"]
        assert (cue[0], cue[2]) == ("violation", "prepared")
        assert "setup:medium" in cue[4]
        assert ["setup:medium", "PBS", "sheet", "water", "s.xlsx row 2"] in shown["metadata"]
        assert shown["dropped"] == [["events/time", "defective"]]
        assert shown["added"] == [["events/a, events/b", "mean"]]
        assert shown["datasets"][0][:4] == ["events/deform", 400, 100, "zstd"]
        assert ["SHA256 of the prepared file", "00"] in shown["sums"]

    def test_pictures_come_with_their_measurement(self, work, config):
        write_page(work, config, some(work, 1), [])
        scripts = read(work).scripts
        assert scripts["t0"] == "UklGRg=="
        assert unpacked(scripts["p0"])["pictures"][0]["title"] == "Scatter"

    @pytest.mark.parametrize(
        "bad", [{"thumbnail": '"><script>'}, {"pictures": [{"id": "x"}]}, {"events": "many"}, {"pictures": 3}]
    )
    def test_an_odd_portrait_does_no_harm(self, work, config, bad):
        write_page(work, config, some(work, 1, **bad), [])
        assert "t0" not in read(work).scripts

    def test_hostile_text_stays_text(self, work, config):
        summary = some(work, 1)
        summary.measurements.append(row(f"{HOSTILE}.rtdc", "failed", HOSTILE, dataset=HOSTILE, note=HOSTILE))
        summary.datasets.append(
            decided(HOSTILE, "blocked", HOSTILE, reason=HOSTILE, warnings=[HOSTILE], group="g")
        )
        summary.warnings.append(HOSTILE)
        write_page(work, config, summary, [HOSTILE])
        parsed = read(work)
        handlers = [a for tag, a in parsed.tags if any(k.startswith("on") for k in a) or "style" in a]
        images = [a for tag, a in parsed.tags if tag == "img"]
        assert (handlers, images) == ([], [])
        assert all(
            "alert(" not in text or not name for name, text in parsed.scripts.items() if name != "data"
        )
        found = json.loads(parsed.scripts["data"])
        assert any("<script>alert(1)" in r[0] for r in found["rows"])

    def test_no_address_is_loaded(self, work, config):
        write_page(work, config, some(work, 2), [])
        for tag, values in read(work).tags:
            for name in ("src", "srcset", "action", "poster"):
                assert name not in values, (tag, values)
            if tag == "link":
                assert values["href"].startswith("data:")

    def test_the_policy_names_every_script(self, work, config):
        write_page(work, config, some(work, 1), [])
        parsed = read(work)
        [policy] = [a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        code = [a for t, a in parsed.tags if t == "script" and "type" not in a]
        assert len(code) == len(re.findall("'sha256-", policy)) - 1

    def test_links_to_the_server(self, work, config):
        config["upload"]["server"] = "playground"
        summary = Summary([row()], [decided(status="draft", dataset_id="1234")])
        write_page(work, config, summary, [])
        links = [a["href"] for t, a in read(work).tags if t == "a"]
        assert "https://dcor-dev.mpl.mpg.de/dataset/1234" in links


class TestSize:
    def test_what_matters_most_comes_first_where_room_is_short(self, work, config, monkeypatch):
        summary = some(work, 6, thumbnail="UklGRg==" * 20)
        summary.measurements[4]["violations"] = 2
        monkeypatch.setattr(page_module, "PACKED", 4000)
        write_page(work, config, summary, [])
        parsed = read(work)
        kept = [name for name in parsed.scripts if name.startswith("d") and name != "data"]
        assert "d4" in kept
        assert 0 < len(kept) < 6
        assert "without details" in work.page.read_text(encoding="utf-8")

    def test_rows_and_cards_are_bounded(self, work, config, monkeypatch):
        monkeypatch.setattr(page_module, "MAX_ROWS", 3)
        monkeypatch.setattr(page_module, "MAX_CARDS", 2)
        monkeypatch.setattr(page_module, "_FIRST_CARDS", 1)
        rows = [row(f"a/{n}.rtdc", dataset=f"d{n}") for n in range(5)]
        rows[4] |= {"status": "failed"}
        write_page(work, config, Summary(rows, [decided(f"d{n}") for n in range(5)]), [])
        parsed = read(work)
        shown = json.loads(parsed.scripts["data"])["rows"]
        assert len(shown) == 3
        assert "a/4.rtdc" in [r[0] for r in shown]
        assert len([a for t, a in parsed.tags if a.get("class") == "card"]) == 2
        text = work.page.read_text(encoding="utf-8")
        assert "3 of 5 measurements" in text
        assert "<summary>1 more dataset</summary>" in text
        assert "3 more datasets" in text

    def test_the_cache_holds_no_more_than_the_page(self, work, config):
        summary = some(work, 4)
        write_page(work, config, summary, [])
        write_page(work, config, Summary(summary.measurements[:1], summary.datasets), [])
        names = {json.loads(line)[0] for line in (work.state / "report" / "details.jsonl").open()}
        assert names == {"m00000"}


class TestAttention:
    @pytest.mark.parametrize(
        ("values", "lead", "private", "level"),
        [
            ({"alerts": 0}, {}, [], 0),
            ({}, {}, [], 1),
            ({"alerts": 0}, {"flags": [1, 0]}, [], 1),
            ({"alerts": 0}, {"flags": [0, 3]}, [], 0),
            ({"alerts": 0}, {}, ["warned"], 1),
            ({"alerts": 0}, {}, ["accepted"], 0),
            ({"violations": 1}, {}, [], 2),
            ({"gaps": 1}, {}, [], 2),
            ({}, {}, ["blocks"], 3),
            ({"status": "failed"}, {}, [], 3),
            ({"status": "excluded", "by_policy": True}, {}, [], 3),
            ({"status": "excluded", "alerts": 0}, {}, [], 0),
            ({"status": "in progress", "alerts": 0}, {}, [], 1),
        ],
    )
    def test_levels(self, values, lead, private, level):
        assert level_of(row(**values), lead, private) == level

    def test_points_stand_in_the_order_of_urgency(self):
        rows = [row("a/1.rtdc", "failed"), row("a/2.rtdc", "in progress"), row("a/3.rtdc", "gone"), row()]
        datasets = [decided(status="blocked"), decided("b", "ready", "U")]
        points = find_points(Summary(rows, datasets, ["a warning"]), {}, ["it stopped"])
        levels = [p.level for p in points]
        assert levels == sorted(levels, key=["act", "look", "note"].index)
        texts = " ".join(p.text for p in points)
        assert all(
            w in texts for w in ("it stopped", "could not be prepared", "blocked", "a warning", "vanished")
        )

    def test_nothing(self):
        assert (
            find_points(Summary([row()], [decided(status="published", title="Blood of mice")]), {}, []) == []
        )


def test_the_table_library_comes_with_its_licence():
    folder = page_module._ASSETS / "datatables"
    assert "MIT" in (folder / "License.txt").read_text()
    assert (folder / "dataTables.min.js").read_text().startswith("/*! DataTables 3.1.5")


def test_the_state_is_plain(work, config):
    write_page(work, config, some(work, 1), [], 3.0)
    noted = read_json(work.state / "report" / "page.json")
    assert (noted["trouble"], noted["seconds"]) == ([], 3.0)


def test_labels_of_an_axis_lie_beside_each_other_within_the_picture() -> None:
    chart = events_chart([5, 900_000])
    assert chart is not None
    axis = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle">([^<]*)<', chart.svg)
    labels = [(float(x), words) for x, y, words in axis if y == axis[0][1]]
    assert [words for _, words in labels] == ["1", "10", "100", "1,000", "10k", "100k", "1M"]
    ends = [(x - len(words) * 3.8, x + len(words) * 3.8) for x, words in labels]
    assert all(left_of[1] < right_of[0] for left_of, right_of in pairwise(ends))
    assert ends[-1][1] <= WIDTH


def test_a_guessed_day_is_no_day_of_acquisition() -> None:
    sure, guessed = record_of("a"), record_of("a", guessed={"experiment:date": "from the time of the file"})
    assert [lead_of(record)["date"] for record in (sure, guessed)] == ["2024-03-01", ""]
    assert timeline_chart(["2024-03-01"] * 2).words == "All on 2024-03-01."


def test_values_read_as_people_write_them() -> None:
    record = record_of("a", metadata={"imaging:pixel size": 0.3400000035762787, "setup:flow rate": 0.04})
    values = {key: value for key, value, *_ in details_of(record, {}, ())["metadata"]}
    assert (values["imaging:pixel size"], values["setup:flow rate"]) == ("0.34", "0.04")


def test_cards_name_files_within_their_folder(work, config) -> None:
    dataset = decided("b", "blocked", "B", reason="raw/b/x.rtdc: bad, see raw/b/y.rtdc and draw/b/z")
    dataset["source"] = "raw/b"
    [card] = make_cards([dataset], {}, {}, None, {})
    assert card["reason"] == "x.rtdc: bad, see y.rtdc and draw/b/z"


def test_kinds_of_private_text_in_words() -> None:
    assert private_kinds(["user", "path", "path", "badge"]) == "1 'badge', 2 paths, 1 user name"
    found = [["logs/a:1", "ip", "10.0.0.1", "2", "blocks"], ["logs/a", "unseen", "too long", "1", "unseen"]]
    assert [[row[1], row[4]] for row in details_of(None, {}, found)["private"]] == [
        ["IP address", "keeps the dataset back"],
        ["unseen", "unseen"],
    ]


def test_large_numbers_beside_an_axis_are_not_cut() -> None:
    chart = events_chart([5] * 95_000)
    assert chart is not None
    ends = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]*)<', chart.svg)
    assert ends[-1][1] == "100,000"
    assert float(ends[-1][0]) - len("100,000") * 7.6 >= 0
