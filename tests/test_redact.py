"""Private text is replaced in everything that a prepared file holds, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recipes
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow.compress.body import BodySettings, write_body
from dcorflow.compress.prepare import Entry, make
from dcorflow.compress.tail import read_history
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError
from dcorflow.integrity import verify_data
from dcorflow.privacy.redact import Redactor, fits
from dcorflow.records import Record, SourceFile

SECRETS = ["anna.mueller", "Anna Müller", "labpc17", "fileserver", "anna@lab.org", "10.0.3.17", "Donor_Petra"]
REDACT: list[Any] = ["user", "host", "email", "share", "ip", ["donor", r"Donor_\w+"]]
NAMES = {"Anna Müller": "P01"}
PREPARE = {"encoder": "compat", "logs": "keep", "redact": REDACT, "pseudonyms": NAMES}


def planted(path: Path) -> Path:
    """Write a measurement with private text in every place that can hold text."""
    logs = {
        "acquisition": [
            r"path: C:\Users\anna.mueller\Desktop\M1.tdms",
            "host name: labpc17, connected to 10.0.3.17:8080",
            "ShapeIn 2.3.3.54",
            "operator Anna_Müller <anna@lab.org>",
        ],
        "fixed": [r"\\fileserver\rtdc\raw", "nothing here"],
        "harmless": ["Größe 5 µm"],
    }
    recipes.small_measurement(path, logs=logs, metadata={"experiment:sample": "Donor_Petra 1"})
    rows = np.zeros(2, [("time", "<f8"), ("note", "S12"), ("who", h5py.string_dtype())])
    rows["note"] = [b"Donor_Petra", b"b"]
    rows["who"] = [b"anna@lab.org", b"-"]
    with h5py.File(path, "r+") as h5:
        fixed = h5["logs/fixed"][:]
        del h5["logs/fixed"]
        h5["logs"].create_dataset("fixed", data=np.array([bytes(v) for v in fixed], "S30"))
        h5["logs/fixed"].attrs["from"] = np.bytes_(b"/home/anna.mueller/x")
        h5["logs"].attrs["user name"] = "anna.mueller"
        h5["events/deform"].attrs["who"] = np.array([b"anna@lab.org", b"x"], "S20")
        h5.attrs["user:by"] = np.bytes_("Anna Müller".encode("latin-1"))
        h5.attrs["setup:software version"] = "ShapeIn 2.3.3.54"
        table = h5.create_dataset("tables/people", data=rows)
        table.attrs["COLOR_time"] = "anna@lab.org"
    return path


def made(path: Path, target: Path, prepare: dict[str, Any] = PREPARE, edits: Any = ()) -> Record:
    stat = path.stat()
    files = [SourceFile(path.name, stat.st_size, stat.st_mtime_ns)]
    record = Record("m-1", "a", "raw", "rtdc", files)
    entry = Entry("m-1", "a", target.name, "raw", path.parent, "rtdc", files)
    make(record, entry, prepare, list(edits), target, 1)
    return record


def spellings(secret: str) -> set[bytes]:
    forms = {secret, secret.replace(" ", "_"), json.dumps(secret)[1:-1], secret.replace("\\", "\\\\")}
    return {form.encode(code) for form in forms for code in ("utf-8", "latin-1")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("redact") / "M1.rtdc")


def test_no_secret_is_left_in_the_bytes(source: Path, tmp_path: Path) -> None:
    raw = source.read_bytes()
    assert all(any(form in raw for form in spellings(secret)) for secret in SECRETS)
    target = tmp_path / "M1.rtdc"
    made(source, target)
    found = {s for s in SECRETS for form in spellings(s) if form.lower() in target.read_bytes().lower()}
    assert not found
    with h5py.File(target) as h5:
        texts = [h5[f"logs/{n}"][:].tolist() for n in ("acquisition", "fixed", "harmless")]
        assert not [line for text in texts for line in text if b"anna" in line.lower()]
        assert h5["logs/acquisition"][:].tolist() == [
            rb"path: C:\Users\<user>\Desktop\M1.tdms",
            b"host name: <host>, connected to <ip>:8080",
            b"ShapeIn 2.3.3.54",
            b"operator P01 <<email>>",
        ]
        assert h5["logs/fixed"][0] == rb"\\<share>"
        assert h5.attrs["experiment:sample"] == "<donor> 1"
        assert h5.attrs["user:by"] == b"P01"
        assert h5.attrs["setup:software version"].startswith("ShapeIn 2.3.3.54")
        assert h5["tables/people"]["note"].tolist() == [b"<donor>", b"b"]
        assert h5["tables/people"].attrs["COLOR_time"] == "<email>"
        assert h5["logs"].attrs["user name"] == "<user>"


def test_history_and_record_say_what_was_replaced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "M1.rtdc"
    record = made(source, target)
    with h5py.File(target) as h5:
        changed = {c["what"]: c for c in read_history(h5)["changed"] if "marks" in c}
    assert changed["logs/acquisition"]["how"] == "redacted: email 1x, host 1x, ip 1x, pseudonyms 2x, user 1x"
    assert changed["/@experiment:sample"]["how"] == "redacted: own pattern 1 (donor) 1x"
    assert changed["tables/people"]["marks"] == ["<donor>", "<email>"]
    both = record.body["datasets"]["logs/acquisition"]
    assert both["digest"] != both["source_digest"]
    assert "source_digest" not in record.body["datasets"]["logs/harmless"]
    assert "source_digest" not in record.body["datasets"]["events/deform"]


def test_the_same_bytes_every_time(source: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a/M1.rtdc", tmp_path / "b/M1.rtdc"
    for target in (first, second):
        target.parent.mkdir()
        made(source, target)
    assert first.read_bytes() == second.read_bytes()


def test_without_anything_to_replace_the_bytes_stay(source: Path, tmp_path: Path) -> None:
    plain = recipes.small_measurement(tmp_path / "plain.rtdc")
    with h5py.File(plain, "r+") as h5:
        del h5["logs/shapein-acquisition"]
    with_, without = tmp_path / "with.rtdc", tmp_path / "without.rtdc"
    write_body(plain, with_, BodySettings.from_plan(PREPARE))
    write_body(plain, without, BodySettings())
    assert with_.read_bytes() == without.read_bytes()


def test_digests_prove_that_the_rest_is_equal(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "M1.rtdc"
    record = made(source, target)
    verify_data(target, record.body["datasets"])
    assert verify(target, source) == []
    other = tmp_path / "other.rtdc"
    other.write_bytes(target.read_bytes())
    with h5py.File(other, "r+") as h5:
        lines = h5["logs/acquisition"][:]
        lines[2] = b"ShapeIn 2.3.3.55"
        h5["logs/acquisition"][:] = lines
        h5["logs"].attrs["user name"] = "someone"
    problems = "\n".join(verify(other, source))
    assert "'logs/acquisition'" in problems
    assert "'user name'" in problems
    with pytest.raises(MeasurementError):
        verify_data(other, record.body["datasets"])


def test_dropped_logs_do_not_tell_a_name(tmp_path: Path) -> None:
    path = recipes.small_measurement(tmp_path / "M1.rtdc", logs={"Anna Müller": ["x"], "kept": ["y"]})
    target = tmp_path / "out.rtdc"
    made(path, target, PREPARE | {"logs": {"drop": ["Anna*"]}})
    assert not any(form in target.read_bytes() for form in spellings("Anna Müller"))
    with h5py.File(target) as h5:
        assert "logs/P01" in {d["what"] for d in read_history(h5)["dropped"]}
    assert verify(target, path) == []


def test_basins_are_redacted_and_cut(tmp_path: Path) -> None:
    path = recipes.file_basin(tmp_path / "M1.rtdc")
    with h5py.File(path, "r+") as h5:
        (name,) = h5["basins"]
        definition = json.loads(b" ".join(h5["basins"][name][:]))
        definition["paths"] = [r"C:\Users\anna.mueller\raw\M7.rtdc", "/home/anna.mueller/M7.rtdc"]
        definition["description"] = "made by Anna Müller"
        del h5["basins"][name]
        h5["basins"][name] = np.array(json.dumps(definition, indent=2).split("\n"), "S200")
    for redact, expected in (
        (["user"], [r"C:\Users\<user>\raw\M7.rtdc", "/home/<user>/M7.rtdc"]),
        (["basin"], ["M7.rtdc"]),
    ):
        target = tmp_path / "out.rtdc"
        made(path, target, PREPARE | {"redact": redact})
        with h5py.File(target) as h5:
            written = json.loads(b" ".join(h5["basins"][name][:]))
        assert written["paths"] == expected
        assert written["description"] == "made by P01"
        assert b"anna" not in target.read_bytes()
        assert verify(target, path) == []


TEXT = st.lists(
    st.sampled_from([*SECRETS, r"C:\Users\\", "/home/", "\\\\", "host name: ", "<user>", "<", ">", " ", "x",
                     "P01", "ü", "\n", "=", "user=", ":", "@", "."]),
    max_size=12,
).map("".join)  # fmt: skip


@settings(deadline=None, database=None, max_examples=300)
@given(text=TEXT)
def test_redaction_is_idempotent_and_leaves_no_name(text: str) -> None:
    redactor = Redactor([*REDACT, "path"], NAMES)
    once, done = redactor.text(text)
    assert redactor.hide(once) == once
    assert bool(done) == (once != text)
    assert Redactor([], NAMES).hide(once) == once
    assert fits(once, text, sorted(done.marks))


def test_marks_do_not_hide_other_differences() -> None:
    assert fits("a <user> b", "a anna b", ["<user>"])
    assert not fits("a <user> b", "a anna c", ["<user>"])
    assert not fits("a <user> b", "a  b", ["<user>"])
    assert fits("<user><ip>", "ab", ["<user>", "<ip>"])
    assert not fits("<user>-<user>" * 50 + "b", "a-" * 200, ["<user>"])
    assert not fits("a <user> b", "a anna b", [])
    assert fits("x", "x", [])
