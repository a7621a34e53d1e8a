"""Private text is found where it would be published, and what only looks like it is not."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recipes
from PIL import Image, PngImagePlugin

from dcorflow.errors import UsageError
from dcorflow.privacy.companions import scan_companion
from dcorflow.privacy.dataset import scan_dataset
from dcorflow.privacy.document import Document, Finding, is_accepted
from dcorflow.privacy.kinds import own
from dcorflow.privacy.pseudonyms import Pseudonyms, load_pseudonyms
from dcorflow.privacy.redact import Redactor
from dcorflow.privacy.scan import _add_attributes, scan_file, tail_text
from dcorflow.privacy.settings import plan_of_scan, privacy_problems


def found(text: str, private: Any = ()) -> list[str]:
    document = Document()
    document.add("here", text)
    return [f.id for f in document.search(own(list(private)))]


PRIVATE = {
    r"C:\Users\anna.smith": ["user:anna.smith", r"path:C:\Users\anna.smith"],
    r'"C:\\Users\\Anna Smith\\x"': ["user:Anna Smith", r"path:C:\\Users\\Anna Smith\\x"],
    "see /home/anna/x.rtdc": ["user:anna", "path:/home/anna/x.rtdc"],
    "file:///Users/ben/z": ["user:ben"],
    "operator = Anna Smith": ["user:Anna Smith"],
    "user name: Anna Smith (PhD)": ["user:Anna Smith"],
    '"username": "asmith",': ["user:asmith"],
    "asmith@pc12:~$ ls": ["user:asmith@pc12"],
    r"saved to \\fs01\rtdc\raw": [r"share:fs01\rtdc\raw"],
    "smb://fs01/rtdc": ["share:fs01/rtdc"],
    r"Last_Exp_Folder=D:\\Experiments\\a b\\c": [r"path:D:\\Experiments\\a b\\c"],
    "mail to a.smith@lab.org.": ["email:a.smith@lab.org"],
    "connected to 10.1.2.3:8080": ["ip:10.1.2.3"],
    "server 2.3.4.5": ["ip:2.3.4.5"],
    "software on host 141.5.6.7": ["ip:141.5.6.7"],
    "mac 00:1b:44:11:3a:b7": ["mac:00:1b:44:11:3a:b7"],
    "Computer name: LABPC-17": ["host:LABPC-17"],
    "from DESKTOP-4F2A9QX": ["host:DESKTOP-4F2A9QX"],
    "ping pc3.lan": ["host:pc3.lan"],
    "Tel.: +49 9131 123-456": ["phone:+49 9131 123-456"],
    "date of birth: 01.02.1980": ["birth:01.02.1980"],
    "geb. 01.02.1980": ["birth:01.02.1980"],
    "DOB=19800201": ["birth:19800201"],
    "<anna.müller@uni-köln.de>": ["email:anna.müller@uni-köln.de"],
    "a.smith (at) lab.org": ["email:a.smith (at) lab.org"],
    "a.smith [at] lab [dot] org": ["email:a.smith [at] lab [dot] org"],
    "copied by anna@LABPC-17, later": ["user:anna@LABPC-17"],
    "asmith@localhost": ["user:asmith@localhost"],
    "ssh://anna:pa55@pc17/x": ["user:anna:pa55"],
    'user = "Anna Smith"': ["user:Anna Smith"],
    "User: asmith": ["user:asmith"],
    "Benutzer: Anna Schmidt": ["user:Anna Schmidt"],
    "patient: Anna Smith": ["user:Anna Smith"],
    "Host: labpc17": ["host:labpc17"],
    "Linux labpc17 5.10.0-1-amd64 #1 SMP": ["host:labpc17"],
    "from LAPTOP-4F2A9QX7": ["host:LAPTOP-4F2A9QX7"],
    "saved to //fs01/rtdc/raw": ["share:fs01/rtdc/raw"],
    r"\\?\UNC\fs01\rtdc\raw": [r"share:fs01\rtdc\raw"],
    "address fe80::1ff:fe23:4567:890a": ["ip:fe80::1ff:fe23:4567:890a"],
    "on /srv/rtdc/smith": ["path:/srv/rtdc/smith"],
}
HARMLESS = [
    "ShapeIn 2.3.3.54",
    "setup:software version = 2.3.4.54 | dclab 0.47.4",
    "2.2.0.0dev",
    "version 10.1.2.3",
    "opencv 4.5.5.64",
    "ShapeIn 2.0.5 | dclab 0.18.0.post6 | dclab 0.34.3",
    "127.0.0.1:80",
    "Windows 10.0.19045",
    "setup:identifier = ZMDD-AcC-fe3cdd-2a2250",
    "imaging:flash device = LED (ZMD L1)",
    "2018-12-11 10:04:03",
    "20-10-23-10-37-15",
    "09:30:00.002 INFO online_contour:bg empty = True",
    "stopped by user",
    "user:note = x",
    "fluorescence:channel 1 name = 525/50",
    "https://dcor.mpl.mpg.de/users/dataset",
    "git@github.com:x/y",
    "plot@2x.png",
    r"C:\Program Files\ShapeIn\ShapeIn.exe",
    "/home/<user>",
    "#1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1 (2023-09-29)",
    "Host: Homo sapiens",
    "threading.local()",
    "hostname = value.strip()",
    "user_name = item.rsplit(1)[0]",
    "def f(user_name: str) -> None:",
    "self.local = 3",
    "operator =",
    "username: unknown",
    r"a \\ b \hline c",
    "1e-3/2.5",
    "polygon filter 3: 1.2.3",
    "https://doi.org/10.1000/182",
    "CUDA 10.2.89.1",
    "std::vector<abc::def>",
    "2018:12:11:10:04:03",
    "// see docs/x, a // b/c",
    "//www.example.org/x",
    "patient: control, donor: 3",
    "user: unknown",
    "user = self.user",
    "pip install numpy@v2",
    "git@host-1:repo",
    "Linux kernel 5.10.0",
    "f(at) = 3",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_private(text: str) -> None:
    assert found(text) == PRIVATE[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not(text: str) -> None:
    assert found(text) == []


def test_own_patterns_and_secret_groups() -> None:
    assert found("Donor_AJ_Chip1", [("donor", "Donor_[A-Z]{2}")]) == ["donor:Donor_AJ"]
    assert found("donor: AJ", [("donor", r"donor: (?P<secret>\w+)")]) == ["donor:AJ"]


def test_findings_reach_over_no_line_and_are_counted() -> None:
    document = Document()
    document.add("logs/a", "x\nin /home/anna/1\ny /home/anna/1", numbered=True)
    document.add("b", "operator =")
    document.add("c", "someone")
    kept = [(f.place, f.id, f.count) for f in document.search([])]
    assert kept == [("logs/a:2", "user:anna", 2), ("logs/a:2", "path:/home/anna/1", 2)]


def test_accepting() -> None:
    finding = Finding("x", "path", r"D:\Exp [1]\a")
    assert is_accepted(finding, [r"path:D:\Exp [1]\a"])
    assert is_accepted(finding, [r"path:D:\*"])
    assert not is_accepted(finding, ["user:*", r"path:C:\*"])


def test_real_measurements_hold_nothing_private(real_data: Path) -> None:
    paths = sorted(real_data.rglob("*.rtdc"))
    assert len(paths) > 5
    assert {p.name: [f.id for f in scan_file(p, [])] for p in paths} == {p.name: [] for p in paths}


def test_logs_of_dclab_hold_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dclab.cli import common, compress

    monkeypatch.setattr(platform, "version", lambda: "#1 SMP Debian 5.10.226-1 (2024-10-03)")
    path = recipes.small_measurement(tmp_path / "M1.rtdc")
    with h5py.File(path, "r+") as h5:
        del h5["logs/shapein-acquisition"]
    compress(path_in=path, path_out=tmp_path / "out.rtdc")
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert [name for name in h5["logs"] if name.startswith("dclab")]
    assert scan_file(tmp_path / "out.rtdc", []) == []
    lost = common.get_command_log([tmp_path / "lost.rtdc", r"C:\Users\anna\lost.rtdc"])
    assert "user:anna" in found("\n".join(lost))


def test_places_in_a_file(tmp_path: Path) -> None:
    path = recipes.file_basin(tmp_path / "M1.rtdc")
    secret = [("own", "geheim")]
    with h5py.File(path, "r+") as h5:
        del h5["logs/shapein-acquisition"]
        h5["logs/geheim-log"] = np.array([b"a", b"b geheim 1"], "S20")
        h5["events/deform"].attrs["geheim-attr"] = "geheim 2"
        h5.attrs["user:number geheim"] = 5
        rows = np.zeros(2, [("t", "<f8"), ("who", "S9")])
        rows["who"][1] = b"geheim 4"
        h5["tables/people"] = rows
    places = {f.place for text in ("log", "attr", "1", "2", "4", "number")
              for f in scan_file(path, [("own", f"{text} geheim|geheim.{text}")])}  # fmt: skip
    assert places >= {
        "logs/geheim-log", "logs/geheim-log:2", "events/deform@geheim-attr", "tables/people[who]:2",
        "@user:number geheim",
    }  # fmt: skip
    [basin] = [f for f in scan_file(path, secret) if f.kind == "basin"]
    assert basin.text.startswith(str(tmp_path))
    assert basin.place.startswith("basins/")


def test_attributes_of_any_kind_are_read_as_they_are(tmp_path: Path) -> None:
    """The file may have been read before: then the text is taken from what h5py gave."""
    path = tmp_path / "a.h5"
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(3), np.arange(2)]
    with h5py.File(path, "w") as h5:
        raw = h5py.h5t.C_S1.copy()
        raw.set_size(9)
        for name in (b"caf\xe9", b"plain"):
            attribute = h5py.h5a.create(h5.id, name, raw, h5py.h5s.create(h5py.h5s.SCALAR))
            attribute.write(np.array(b"Andr\xe9 N."))
        h5.attrs.create("numbers", ragged, dtype=h5py.vlen_dtype("i4"))
        h5.attrs["texts"] = ["one", "zwei \u00fc"]
        h5.attrs["fixed"] = np.array([b"x", b"yy"], "S3")
        h5.attrs["nothing"] = h5py.Empty("S3")
        h5.attrs["no number"] = h5py.Empty("f8")
        h5.attrs["yes"] = True
        h5.attrs["lost"] = b"\xfcbel"
        h5.attrs["long"] = np.float64(1.5)
    expected = Document()
    with h5py.File(path) as h5:
        _add_attributes(expected, "", h5py.h5o.open(h5.id, b"/"))
        found = tail_text(h5)
    assert "caf\ufffd = Andr\u00e9 N." in expected._parts and "lost = \u00fcbel" in expected._parts
    assert list(zip(found._places, found._parts, strict=True)) == list(
        zip(expected._places, expected._parts, strict=True)
    )


def test_lines_of_a_log_are_joined_in_any_case(tmp_path: Path) -> None:
    lines = [b"first\n\xfc", b"anna@lab.org"]
    with h5py.File(recipes.small_measurement(tmp_path / "M1.rtdc"), "r+") as h5:
        h5["logs/odd"] = np.array(lines, "S20")
        h5["logs/even"] = np.array([b"first", b"anna@lab.org"], "S20")
    places = {f.place for f in scan_file(tmp_path / "M1.rtdc", []) if f.kind == "email"}
    assert places == {"logs/even:2"}  # the first place of each text
    with h5py.File(tmp_path / "M1.rtdc", "r+") as h5:
        del h5["logs/even"]
    assert {f.place for f in scan_file(tmp_path / "M1.rtdc", []) if f.kind == "email"} == {"logs/odd:2"}


def test_a_userblock_is_looked_into(tmp_path: Path) -> None:
    path = recipes.userblock(tmp_path / "M1.rtdc")
    with path.open("r+b") as stream:
        stream.write(b"written by anna@lab.org\n")
    assert ("userblock", "email:anna@lab.org") in {(f.place, f.id) for f in scan_file(path, [])}


def notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "fine"], "metadata": {}},
        {"cell_type": "code", "source": "1 + 1", "metadata": {}, "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["ok\n", "read /home/anna/M1.rtdc\n"]},
            {"output_type": "execute_result", "metadata": {}, "data": {"text/plain": ["'anna@lab.org'"],
             "image/png": "aGk="}},
            {"output_type": "error", "ename": "E", "evalue": "v", "traceback": [r"C:\Users\ben\x.py in f"]},
        ]},
    ]  # fmt: skip
    return json.dumps(
        {"cells": cells, "metadata": {"authors": [{"name": "x@lab.org"}]}, "nbformat": 4}
    ).encode()


COMPANIONS: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "notes.txt": (b"first\r\nwrite to anna@lab.org", [("line:2", "email:anna@lab.org")]),
    "windows.csv": ("Gr\u00f6\u00dfe;/home/anna/x".encode("cp1252"), [
        ("line:1", "user:anna"), ("line:1", "path:/home/anna/x"),
    ]),
    "wide.txt": ("tel: 09131 123456".encode("utf-16"), [("line:1", "phone:09131 123456")]),
    "plot.ipynb": (notebook(), [
        ("cell 2 output:2", "user:anna"), ("cell 2 output:2", "path:/home/anna/M1.rtdc"),
        ("cell 2 output:1", "email:anna@lab.org"), ("cell 2 output:1", "user:ben"),
        ("cell 2 output:1", r"path:C:\Users\ben\x.py in f"), ("metadata", "email:x@lab.org"),
    ]),
    "broken.ipynb": (b"{ anna@lab.org", [("line:1", "email:anna@lab.org")]),
    "paper.pdf": (b"%PDF-1.4\n/Author (Anna anna@lab.org) \x00\xff", [
        ("PDF Author", "email:anna@lab.org"), ("", "unseen:the pages of PDF documents are not looked into"),
    ]),
    "data.sof": (b"\x00\x01\x02", [("", "unseen:no text that could be looked into")]),
    "picture.png": (b"no picture", [("", "unseen:a picture that cannot be opened")]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPANIONS)
def test_companions(name: str, tmp_path: Path) -> None:
    content, expected = COMPANIONS[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert [(f.place, f.id) for f in scan_companion(path, [])] == expected


def test_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Anna Smith"
    exif[0x013C] = "labpc17"
    exif[0x010E] = "chip, see /home/anna/x"
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x9C9D] = "Ben Smith\0".encode("utf-16-le")  # XPAuthor
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "of eve@lab.org".encode("utf-16-be")  # UserComment
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    told = PngImagePlugin.PngInfo()
    told.add_text("Author", "Ida Smith")
    Image.new("L", (8, 8)).save(tmp_path / "c.png", pnginfo=told)
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0of ida@lab.org\0"
    Image.new("L", (8, 8)).save(tmp_path / "d.jpg", exif=exif)
    ids = {f.id for f in scan_companion(tmp_path / "a.jpg", [])}
    assert {"exif:Anna Smith", "exif:labpc17", "user:anna", "exif:GPSLatitudeRef"} <= ids
    assert {"exif:Ben Smith", "email:eve@lab.org"} <= ids
    assert [f.id for f in scan_companion(tmp_path / "c.png", [])] == ["exif:Ida Smith"]
    assert "email:ida@lab.org" in {f.id for f in scan_companion(tmp_path / "d.jpg", [])}
    assert scan_companion(tmp_path / "b.png", []) == []


def test_large_companions_are_read_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"/home/anna\n" + b"1;2;3\n" * (5 << 20 >> 2))
    kinds = [f.kind for f in scan_companion(path, [])]
    assert kinds == ["user", "path", "unseen"]


def plan(policy: dict[str, Any], private: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    fields = {"title": "Blood of Anna", "authors": ["A. Smith"], "private": private, "notes": "a@lab.org"}
    member = {
        "measurement": "m1",
        "name": "M1.rtdc",
        "supplements": {"cells": {"details": "tel: 09131 123456"}},
    }
    dataset = {"dataset": "x-anna", "fields": fields, "members": [member], "companions": []}
    return dataset, {"check": policy, "scan": {"private": [["own", "anna"]], "key": "k"}}


@pytest.mark.parametrize(
    ("policy", "private", "expected"),
    [
        ({}, True, "warned"),
        ({}, False, "blocks"),
        ({"on_private": "block"}, True, "blocks"),
        ({"on_private": "warn"}, False, "warned"),
        ({"on_private": "block", "accept_private": ["*"]}, False, "accepted"),
    ],
)
def test_what_a_finding_means(policy: dict[str, Any], private: bool, expected: str) -> None:
    dataset, settings = plan(policy, private)
    found = [Finding("logs/a:1", "user", "ben").as_dict()]
    places, _ = scan_dataset(dataset, [(dataset["members"][0], found)], settings, {})
    assert {p.finding.id for p in places} == {
        "own:anna", "own:Anna", "email:a@lab.org", "phone:09131 123456", "user:ben"
    }  # fmt: skip
    assert {p.verdict for p in places} == {expected}


def test_what_is_replaced_in_measurements_is_looked_for_beside_them() -> None:
    """Title, companions and names of resources are published as they are, or made of what is replaced."""
    redact = ["user", {"kind": "donor", "pattern": r"Donor_\w+"}]
    config: Any = {"prepare": {"redact": redact}, "check": {"private": []}}
    assert plan_of_scan(config, {})["private"] == []  # the marks are in the measurements
    scan = plan_of_scan(config, {}, beside=True)
    members = [
        {"measurement": "m1", "name": "Donor_AJ.rtdc", "supplements": {}},
        {
            "measurement": "m2",
            "name": "M2.rtdc",
            "resource": "2024_M2__donor__x_0123.rtdc",
            "supplements": {},
        },
        {"measurement": "m3", "name": "M3.rtdc", "resource": "2024_M3_Donor_B_0123.rtdc", "supplements": {}},
    ]
    fields = {"title": "Cells of Donor_C", "private": False}
    dataset = {"dataset": "x", "fields": fields, "members": members, "companions": []}
    settings = {"check": {}, "scan": scan}
    places, _ = scan_dataset(dataset, [(member, []) for member in members], settings, {})
    assert {(p.finding.place, p.finding.text) for p in places} == {
        ("title", "Donor_C"), ("name of a resource", "Donor_AJ"), ("name of a resource", "Donor_B_0123")
    }  # fmt: skip
    assert {p.verdict for p in places} == {"blocks"}


class TestPseudonyms:
    TABLE = {"Anna Smith": "P01", "Jörg": "P02", "AJ": "D7"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Anna Smith", "P01"),
            ("2020_anna-smith_1.rtdc", "2020_P01_1.rtdc"),
            ("ANNASMITH", "P01"),
            ("Joerg, Jörg, Jo\u0308rg", "P02, P02, P02"),
            (json.dumps("Jörg"), '"P02"'),
            ("Donor_AJ_Chip1", "Donor_D7_Chip1"),
            ("AJAX Anna Smithers", "AJAX Anna Smithers"),
        ],
    )
    def test_spellings(self, text: str, expected: str) -> None:
        assert Pseudonyms(self.TABLE).hide(text) == expected

    @pytest.mark.parametrize(
        "table",
        [
            "name\tpseudonym\nAnna Smith\tP01\n",
            "\ufeffname;pseudonym;remark\nAnna Smith;P01;x\n",
            'pseudonym,name\nP01,"Anna Smith"\n',
        ],
    )
    def test_tables(self, table: str, tmp_path: Path) -> None:
        (tmp_path / "names.tsv").write_text(table, encoding="utf-8")
        assert load_pseudonyms("names.tsv", tmp_path) == {"Anna Smith": "P01"}

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ({"A": "P1"}, "name 1"),
            ({"Anna": "P 1"}, "file names"),
            ({"Anna": "x/y"}, "file names"),
            ({"Anna": "Anna-1"}, "holds a name"),
            ("missing.tsv", "cannot be read"),
        ],
    )
    def test_mistakes(self, table: Any, words: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            load_pseudonyms(table, tmp_path)
        assert "Anna " not in str(caught.value)

    def test_mistakes_in_a_table_name_their_rows(self, tmp_path: Path) -> None:
        (tmp_path / "names.tsv").write_text("name\tpseudonym\nAnna\tP1\nB\tP2\nCarl\tP 3\n")
        with pytest.raises(UsageError) as caught:
            load_pseudonyms("names.tsv", tmp_path)
        first, second = str(caught.value).split("\n  - ")
        assert "names.tsv, row 3: expected at least two letters" in first
        assert "names.tsv, row 4: the pseudonym 'P 3'" in second


@pytest.mark.parametrize(
    ("prepare", "check", "words"),
    [
        ({"redact": ["usr"]}, {}, "did you mean 'user'"),
        ({"redact": [{"kind": "x", "pattern": "("}]}, {}, "not a regular expression"),
        ({"redact": [{"kind": "x", "pattern": "a*"}]}, {}, "empty text"),
        ({}, {"private": ["["]}, "'check.private' 1: not a regular expression"),
        ({"pseudonyms": {"Anna": ""}}, {}, "prepare.pseudonyms"),
    ],
)
def test_mistakes_in_settings(
    prepare: dict[str, Any], check: dict[str, Any], words: str, tmp_path: Path
) -> None:
    config = {"prepare": {"redact": [], "pseudonyms": {}} | prepare, "check": {"private": []} | check}
    [problem] = privacy_problems(config, tmp_path)
    assert words in problem


def test_the_scan_finds_nothing_that_was_redacted() -> None:
    redactor = Redactor(["user", "email", "host", "share", "ip", "mac", "phone", "birth", "path"], {})
    assert {text: found(redactor.hide(text)) for text in PRIVATE} == {text: [] for text in PRIVATE}
