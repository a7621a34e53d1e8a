"""Batches: one measurement after the other, whatever one of them does to its process."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

import pytest
import recipes
from demo_tdms import write_tdms

from dcorflow import batch, integrity
from dcorflow.batch import Attempts, read_batch, run_batch, write_stamp
from dcorflow.compress import prepare as preparing
from dcorflow.errors import UsageError
from dcorflow.files import to_json, write_text
from dcorflow.memory import LIMITED
from dcorflow.records import load_record
from dcorflow.workdir import Workdir

PREPARE = {"encoder": "compat", "logs": "keep", "naming": "keep"}


@pytest.fixture
def work(tmp_path):
    return Workdir(tmp_path / "work")


def plan(work, folder, names, edits=None):
    """Write the plan of batch b1 for files in `folder`; the first part of a name is its id."""
    entries = []
    for name in names:
        paths = [p for p in sorted(folder.iterdir()) if p.name == name]
        if name.endswith(".tdms"):
            paths += [p for p in sorted(folder.iterdir()) if p.name.startswith("M1_") and p.name != name]
        files = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
        entries.append(
            {
                "measurement": name.split(".")[0],
                "dataset": "a",
                "name": f"{name.split('.')[0]}.rtdc",
                "root": "raw",
                "folder": str(folder),
                "kind": name.rpartition(".")[2],
                "files": files,
            }
        )
    write_text(work.batch("b1"), to_json({"batch": "b1", "prepare": PREPARE, "entries": entries}))
    wanted = {e["measurement"]: [] for e in entries} | (edits or {})
    write_text(work.edits("b1"), to_json({"edits": wanted}))
    return [e["measurement"] for e in entries]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    for n, name in enumerate(("one", "two", "three")):
        recipes.small_measurement(folder / f"{name}.rtdc", seed=n)
    return folder


NAMES = ("one.rtdc", "two.rtdc", "three.rtdc")


def strange_worker(monkeypatch, body):
    """Make workers run `body` in front of preparing a measurement, in a function of `entry`."""
    names = {
        "plain": preparing.prepare,
        "quiet": faulthandler.disable,
        "os": os,
        "signal": signal,
        "sys": sys,
    }
    exec(f"def strange(entry, *rest):\n    quiet()\n    {body}\n    return plain(entry, *rest)\n", names)
    monkeypatch.setattr(preparing, "prepare", names["strange"])


def end_once_before(monkeypatch, module, name, flag):
    """Let a process be killed in front of the first call of a function."""
    plain = getattr(module, name)

    def strange(*arguments, **named):
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments, **named)

    monkeypatch.setattr(module, name, strange)


class TestAttempts:
    def test_seen_deaths(self, work):
        attempts = Attempts(work, "compress")
        for _ in range(2):
            assert attempts.begin("m")
            attempts.died("m")
        assert not attempts.begin("m")
        attempts.end("m")
        assert attempts.begin("m")

    def test_unseen_deaths_count_less(self, work):
        count = 0
        while Attempts(work, "compress").begin("m"):
            count += 1
            assert count < 50
        assert count > 2

    def test_each_stage_counts_for_itself(self, work):
        for _ in range(2):
            Attempts(work, "compress").begin("m")
            Attempts(work, "compress").died("m")
        assert Attempts(work, "check").begin("m")

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"stage": "compress"}', '{"stage": "compress", "seen": "x"}']
    )
    def test_a_damaged_marker_is_no_marker(self, work, text):
        write_text(work.attempt("m"), text)
        assert Attempts(work, "compress").begin("m")

    def test_no_marker_is_left_after_success(self, work):
        Attempts(work, "compress").begin("m")
        Attempts(work, "compress").end("m")
        Attempts(work, "compress").end("m")
        assert not work.attempt("m").exists()


class TestRun:
    def test_all_stages(self, work, raw):
        edit = ["user:x", "y", "replace", "folder override", "w"]
        names = plan(work, raw, NAMES, {"two": [edit]})
        for stage in ("compress", "check", "merge_metadata"):
            assert run_batch(work, stage, "b1", 2)[:2] == (3, 0)
            assert work.stamp(stage, "b1").exists()
        for name in names:
            record = load_record(work, name)
            assert record.failure is None and record.prepared["sha256"]
            assert (work.datasets / "a" / f"{name}.rtdc").exists()
        assert [e["key"] for e in load_record(work, "two").edits][:1] == ["user:x"]
        assert list((work.state / "attempts").iterdir()) == []

    def test_where_the_scheduler_ends_jobs_the_batch_ends_without_the_one_they_ended_at(
        self, work, raw, monkeypatch
    ):
        """As when a job needs more memory than it has within an instant: nobody sees why it ends."""
        monkeypatch.setenv(LIMITED, "yes")
        plan(work, raw, NAMES)
        for _ in range(3):
            assert Attempts(work, "compress").begin("two")
        assert run_batch(work, "compress", "b1", 2)[:2] == (3, 1)
        assert work.stamp("compress", "b1").exists()
        failure = load_record(work, "two").failure
        assert failure.failure == "environment"
        assert "the scheduler ended 3 jobs that worked on it" in failure.reason
        assert [load_record(work, name).failure for name in ("one", "three")] == [None, None]
        # The next run tries it anew.
        assert run_batch(work, "compress", "b1", 2)[:2] == (3, 0)
        assert load_record(work, "two").failure is None

    def test_nothing_is_loaded_where_records_say_that_all_is_merged(self, work, raw, monkeypatch, capfd):
        recipes.text_file(raw / "bad.rtdc")
        edit = ["user:x", "y", "replace", "folder override", "w"]
        plan(work, raw, ("bad.rtdc", *NAMES))
        for stage in ("compress", "check", "merge_metadata"):
            run_batch(work, stage, "b1", 2)
        monkeypatch.setattr(batch, "_handler", lambda *arguments: pytest.fail("a worker was needed"))
        assert run_batch(work, "merge_metadata", "b1", 2) == (4, 1, 0)
        assert capfd.readouterr().err.count("bad.rtdc: ") == 4
        # A job that ended between a record and the end of its work leaves a mark, which is not counted later.
        Attempts(work, "merge_metadata").begin("two")
        assert run_batch(work, "merge_metadata", "b1", 2) == (4, 1, 0)
        assert list((work.state / "attempts").iterdir()) == []
        plan(work, raw, ("bad.rtdc", *NAMES), {"two": [edit]})
        with pytest.raises(pytest.fail.Exception):
            run_batch(work, "merge_metadata", "b1", 2)

    @pytest.mark.parametrize("name", ["one.rtdc", "M1_data.tdms"])
    def test_a_worker_that_ends_between_file_and_record_leaves_no_half_edit(
        self, tmp_path, raw, monkeypatch, capfd, name
    ):
        """Not even where the tail of the file that lies there changed other pages than the recorded one."""
        write_tdms(raw, "M1_data", 10, 5)
        edit = ["setup:medium", "water", "replace", "folder override", "w"]
        made = {}
        for place in ("undisturbed", "disturbed"):
            work = Workdir(tmp_path / place)
            [measurement] = plan(work, raw, [name])
            for stage in ("compress", "check", "merge_metadata"):
                assert run_batch(work, stage, "b1", 1)[:2] == (1, 0)
            plan(work, raw, [name], {measurement: [edit]})
            if place == "disturbed":
                end_once_before(monkeypatch, integrity, "save_record", tmp_path / "ended")
            assert run_batch(work, "merge_metadata", "b1", 1)[:2] == (1, 0)
            made[place] = (
                load_record(work, measurement),
                (work.datasets / "a" / f"{measurement}.rtdc").read_bytes(),
            )
        assert "SIGKILL" in capfd.readouterr().err
        (wanted, bytes_wanted), (found, bytes_found) = made["undisturbed"], made["disturbed"]
        assert "water" in [e["new"] for e in found.edits]
        assert found.edits == wanted.edits and bytes_found == bytes_wanted
        place = Workdir(tmp_path / "disturbed").datasets / "a" / found.prepared["name"]
        assert found.prepared["mtime_ns"] == place.stat().st_mtime_ns
        assert found.prepared["sha256"] == wanted.prepared["sha256"]

    def test_new_names_of_edited_files_are_synced_before_the_stamp(self, work, raw, monkeypatch):
        names = plan(work, raw, NAMES)
        for stage in ("compress", "check"):
            run_batch(work, stage, "b1", 1)
        edit = ["setup:medium", "water", "override", "sheet", "row 2"]
        plan(work, raw, NAMES, {name: [edit] for name in names})
        synced = []

        def look(folder):
            records = [load_record(work, name) for name in names]
            synced.append(
                (folder, all(r.edits for r in records), work.stamp("merge_metadata", "b1").exists())
            )

        monkeypatch.setattr(batch, "sync_folder", look)
        assert run_batch(work, "merge_metadata", "b1", 1) == (3, 0, 3)
        assert synced == [(work.datasets / "a", True, False), (work.records, True, False)]
        assert work.stamp("merge_metadata", "b1").exists()

    def test_an_exception_in_one_does_not_stop_others(self, work, raw, monkeypatch, capfd):
        strange_worker(monkeypatch, "if entry.measurement == 'two': raise ZeroDivisionError('odd\\n thing')")
        plan(work, raw, NAMES)
        assert run_batch(work, "compress", "b1", 1)[:2] == (3, 1)
        failure = load_record(work, "two").failure
        assert "ZeroDivisionError: odd thing" in failure.reason
        assert failure.failure == "environment"
        assert load_record(work, "three").failure is None
        assert "two.rtdc: " in capfd.readouterr().err

    @pytest.mark.parametrize("kill", ["SIGSEGV", "SIGKILL", "SIGABRT"])
    def test_one_that_kills_its_process_does_not_stop_others(self, work, raw, monkeypatch, capfd, kill):
        body = f"if entry.measurement == 'two': os.kill(os.getpid(), signal.{kill})"
        strange_worker(monkeypatch, body)
        plan(work, raw, NAMES)
        assert run_batch(work, "compress", "b1", 1)[:2] == (3, 1)
        failure = load_record(work, "two").failure
        assert "ended the process" in failure.reason
        assert failure.failure == "content"
        assert load_record(work, "three").failure is None
        assert kill in capfd.readouterr().err
        assert not work.attempt("two").exists()

    def test_one_that_kills_its_process_once_is_prepared(self, work, raw, tmp_path, monkeypatch):
        flag = tmp_path / "flag"
        body = (
            f"if entry.measurement == 'two' and not os.path.exists({str(flag)!r}): "
            f"open({str(flag)!r}, 'w').close(); os.kill(os.getpid(), signal.SIGKILL)"
        )
        strange_worker(monkeypatch, body)
        plan(work, raw, NAMES)
        assert run_batch(work, "compress", "b1", 1)[:2] == (3, 0)

    @pytest.mark.parametrize("body", ["sys.exit(3)", "raise KeyboardInterrupt", "os._exit(1)"])
    def test_one_that_ends_its_process_in_peace_does_not_stop_others(self, work, raw, monkeypatch, body):
        strange_worker(monkeypatch, f"if entry.measurement == 'two': {body}")
        plan(work, raw, NAMES)
        try:
            run_batch(work, "compress", "b1", 1)
        except SystemExit:
            pytest.fail("the batch ended because of one measurement")
        assert load_record(work, "three").failure is None

    def test_a_tdms_without_its_settings_does_not_stop_others(self, work, raw):
        write_tdms(raw, "M1_data", events=4)
        (raw / "M1_para.ini").unlink()
        plan(work, raw, ("one.rtdc", "M1_data.tdms", "two.rtdc"))
        try:
            assert run_batch(work, "compress", "b1", 1)[:2] == (3, 1)
        except SystemExit:
            pytest.fail("the batch ended because of one measurement")
        assert "side files" in load_record(work, "M1_data").failure.reason

    def test_termination_ends_the_batch(self, work, raw, monkeypatch):
        strange_worker(monkeypatch, "if entry.measurement == 'two': os.kill(os.getpid(), signal.SIGTERM)")
        plan(work, raw, NAMES)
        with pytest.raises(SystemExit) as caught:
            run_batch(work, "compress", "b1", 1)
        assert caught.value.code == 128 + signal.SIGTERM
        assert not work.stamp("compress", "b1").exists()
        assert not list(work.datasets.glob("a/.dcorflow-*"))

    def test_bad_files_end_in_their_records(self, work, raw):
        recipes.text_file(raw / "bad.rtdc")
        recipes.corrupt_chunk(raw / "worse.rtdc")
        plan(work, raw, ("bad.rtdc", *NAMES, "worse.rtdc"))
        assert run_batch(work, "compress", "b1", 1)[:2] == (5, 2)
        assert run_batch(work, "check", "b1", 1)[0] == 5
        assert "not an HDF5 file" in load_record(work, "bad").failure.reason
        assert "corrupt chunk" in load_record(work, "worse").failure.reason

    def test_a_vanished_source(self, work, raw):
        plan(work, raw, NAMES)
        (raw / "two.rtdc").unlink()
        assert run_batch(work, "compress", "b1", 1)[:2] == (3, 1)
        assert load_record(work, "two").failure.failure == "environment"

    def test_a_batch_that_was_interrupted_goes_on_where_it_stopped(self, work, raw):
        plan(work, raw, ("one.rtdc",))
        run_batch(work, "compress", "b1", 1)
        before = (work.datasets / "a/one.rtdc").stat().st_ino
        plan(work, raw, NAMES)
        assert run_batch(work, "compress", "b1", 1).worked == 2
        assert (work.datasets / "a/one.rtdc").stat().st_ino == before
        assert run_batch(work, "compress", "b1", 1) == (3, 0, 0)

    @pytest.mark.parametrize("missing", ["batch", "edits", "both"])
    def test_without_a_plan(self, work, raw, missing):
        plan(work, raw, NAMES)
        for name in ("batch", "edits"):
            if missing in (name, "both"):
                getattr(work, name)("b1").unlink()
        with pytest.raises(UsageError, match="b1"):
            read_batch(work, "b1")


class TestStamps:
    def test_stand_for_the_records(self, work, raw, tmp_path):
        names = plan(work, raw, NAMES)
        run_batch(work, "compress", "b1", 1)
        stamp = work.stamp("compress", "b1")
        first = stamp.read_text()
        write_stamp(work, "compress", "b1", names)
        assert stamp.read_text() == first
        write_text(work.record("two"), "{}")
        write_stamp(work, "compress", "b1", names)
        changed = stamp.read_text()
        assert changed != first
        work.record("two").unlink()
        write_stamp(work, "compress", "b1", names)
        assert stamp.read_text() not in (first, changed)
