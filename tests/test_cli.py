"""The command line: exit codes, JSON, help, and messages instead of tracebacks."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import pytest
import recipes
import yaml
from demo_data import write_measurement
from demo_tdms import write_tdms
from runs import snapshot

from dcorflow.cli import main, make_parser

COMMANDS = ("compress", "convert", "check", "verify", "plan", "status", "report")


def run(*arguments):
    """Return exit code, also where the parser ends the process."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as error:
        return error.code


@pytest.fixture
def small(tmp_path):
    return recipes.small_measurement(tmp_path / "a.rtdc")


class TestHelp:
    def parsers(self):
        (commands,) = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
        return commands

    def test_every_command_and_option_is_described(self):
        commands = self.parsers()
        helps = {a.dest: a.help for a in commands._choices_actions}
        assert set(COMMANDS) <= set(commands.choices)
        assert all(helps.values())
        assert [n for n, parser in commands.choices.items() if not parser.description] == []
        nameless = [
            f"{name} {action.dest}"
            for name, parser in commands.choices.items()
            for action in parser._actions
            if not action.help and (action.option_strings or name in COMMANDS)
        ]
        assert nameless == []

    @pytest.mark.parametrize("command", [(), *[(c,) for c in COMMANDS]])
    def test_help(self, command, capsys):
        assert run(*command, "--help") == 0
        text = capsys.readouterr().out
        assert "usage:" in text
        if not command:
            assert all(name in text for name in self.parsers().choices)

    def test_version(self, capsys):
        assert run("--version") == 0
        assert capsys.readouterr().out.startswith("dcorflow ")

    def test_exit_codes_are_documented(self, capsys):
        run("check", "--help")
        text = " ".join(capsys.readouterr().out.split())
        assert "0 clean 1 alerts 2 violations 3 both 4 unreadable" in text


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("unknown",),
            ("compress",),
            ("compress", "a.rtdc"),
            ("compress", "a.rtdc", "b.rtdc", "--encoder", "fastest"),
            ("compress", "a.rtdc", "b.rtdc", "--threads", "many"),
            ("compress", "missing.rtdc", "b.rtdc"),
            ("check", "missing.rtdc"),
            ("check", "a.rtdc", "--jsn"),
            ("convert", "missing.tdms", "b.rtdc"),
            ("plan",),
            ("plan", "--configfile", "missing.yaml"),
            ("report",),
            ("batch", "compress", "b1"),
            ("batch", "squeeze", "b1"),
            ("discover",),
        ],
    )
    def test_code_64_and_one_message(self, tmp_path, monkeypatch, capsys, arguments):
        monkeypatch.chdir(tmp_path)
        assert run("-d", tmp_path / "work", *arguments) == 64
        error = capsys.readouterr().err
        assert "dcorflow" in error
        assert "Traceback" not in error

    @pytest.mark.parametrize("threads", ["0", "-1"])
    def test_threads_are_counted_from_one(self, small, tmp_path, threads):
        code = run("compress", small, tmp_path / "out.rtdc", "--threads", threads)
        assert code == 64 or (code == 0 and (tmp_path / "out.rtdc").exists())

    def test_same_input_and_output(self, small):
        before = small.read_bytes()
        assert run("compress", small, small) == 64
        assert small.read_bytes() == before

    def test_other_suffixes(self, small, tmp_path, capsys):
        assert run("compress", small, tmp_path / "out.h5") == 64
        assert run("convert", small, tmp_path / "out.rtdc") == 64
        assert ".rtdc" in capsys.readouterr().err


class TestCompress:
    @pytest.mark.parametrize("options", [(), ("--encoder", "best"), ("--strip-logs",), ("--threads", "2")])
    def test_good(self, small, tmp_path, capsys, options):
        assert run("compress", small, tmp_path / "new folder/out.rtdc", *options) == 0
        assert "8 events" in capsys.readouterr().out
        assert run("verify", tmp_path / "new folder/out.rtdc", small) == 0

    def test_bad(self, tmp_path, capsys):
        assert run("compress", recipes.text_file(tmp_path / "a.rtdc"), tmp_path / "out.rtdc") == 1
        error = capsys.readouterr().err
        assert "not an HDF5 file" in error
        assert "Traceback" not in error
        assert not (tmp_path / "out.rtdc").exists()

    def test_internal_errors(self, small, tmp_path, monkeypatch, capsys):
        def broken(*_):
            raise ZeroDivisionError

        monkeypatch.setattr("dcorflow.compress.single.compress_file", broken)
        assert run("compress", small, tmp_path / "out.rtdc") == 70
        assert "internal error" in capsys.readouterr().err

    def test_a_target_that_cannot_be_written(self, small, tmp_path, capsys):
        (tmp_path / "file").write_text("x")
        assert run("compress", small, tmp_path / "file/out.rtdc") == 1
        assert "Traceback" not in capsys.readouterr().err

    def test_the_source_is_not_touched(self, tmp_path):
        source = recipes.small_measurement(tmp_path / "source/a.rtdc")
        before = snapshot(tmp_path / "source")
        run("compress", source, tmp_path / "out.rtdc")
        run("check", source)
        assert snapshot(tmp_path / "source") == before


class TestConvert:
    def test_good(self, tmp_path, capsys):
        path = write_tdms(tmp_path / "tdms", "M1_data", events=4)
        assert run("convert", path, tmp_path / "out.rtdc") == 0
        assert "4 events" in capsys.readouterr().out

    def test_bad(self, tmp_path, capsys):
        path = tmp_path / "M1_data.tdms"
        path.write_text("text")
        assert run("convert", path, tmp_path / "out.rtdc") == 1
        assert "Traceback" not in capsys.readouterr().err

    def test_without_settings(self, tmp_path, capsys):
        path = write_tdms(tmp_path / "tdms", "M1_data", events=4)
        (path.parent / "M1_para.ini").unlink()
        try:
            code = main(["convert", str(path), str(tmp_path / "out.rtdc")])
        except BaseException as error:
            pytest.fail(f"not explained: {type(error).__name__}")
        assert code == 1
        assert "side files" in capsys.readouterr().err


class TestCheck:
    def clean(self, path):
        """Write a measurement that is compressed and complete."""
        source = write_measurement(path.with_name("source.rtdc"), 8)
        assert run("compress", source, path) == 0
        return path

    def test_clean(self, tmp_path, capsys):
        path = self.clean(tmp_path / "a.rtdc")
        capsys.readouterr()
        code = run("check", path, "--json")
        cues = json.loads(capsys.readouterr().out)["cues"]
        assert code == 0, [c for c in cues if c["level"] != "info"]

    @pytest.mark.parametrize(
        ("metadata", "code"),
        [
            ({"setup:identifier": "x", "setup:flow rate": 1.0}, 1),
            ({"imaging:roi size x": 11}, 2),
            ({"imaging:roi size x": 11, "setup:flow rate": 1.0}, 3),
        ],
    )
    def test_findings(self, tmp_path, capsys, metadata, code):
        path = write_measurement(tmp_path / "a.rtdc", 8, metadata=metadata)
        assert run("check", path, "--json") == code
        cues = json.loads(capsys.readouterr().out)["cues"]
        levels = {c["level"] for c in cues}
        assert ("alert" in levels, "violation" in levels) == (bool(code & 1), bool(code & 2))
        assert all(c["id"] and c["category"] and c["message"] for c in cues)
        assert run("check", path) == code
        text = capsys.readouterr().out
        assert all(c["id"] in text for c in cues)

    @pytest.mark.parametrize(
        "name", ["text_file", "empty_file", "truncated", "external_link", "directory", "left_open"]
    )
    def test_unreadable(self, tmp_path, capsys, name):
        path = recipes.RECIPES[name](tmp_path / "a.rtdc")
        assert run("check", path) == 4
        assert "unreadable: " in capsys.readouterr().out
        assert run("check", path, "--json") == 4
        assert json.loads(capsys.readouterr().out)["unreadable"]

    @pytest.mark.parametrize("text", ["", "text"])
    def test_unreadable_tdms(self, tmp_path, text):
        path = tmp_path / "M1_data.tdms"
        path.write_text(text)
        try:
            code = main(["check", str(path)])
        except BaseException as error:
            pytest.fail(f"not explained: {type(error).__name__}")
        assert code == 4

    def test_odd_names(self, tmp_path):
        path = recipes.small_measurement(tmp_path / "a b'\"\nö.rtdc")
        assert run("check", path) in (0, 1, 2, 3)

    def test_names_that_are_no_text(self, tmp_path, capsys):
        path = recipes.small_measurement(tmp_path / "stray \udce4.rtdc")
        assert run("compress", path, tmp_path / "out \udce4.rtdc") == 0
        assert run("check", path) in (0, 1, 2, 3)
        assert run("check", path, "--json") in (0, 1, 2, 3)
        assert run("verify", tmp_path / "out \udce4.rtdc", path) == 0
        capsys.readouterr()


class TestVerify:
    def test_codes(self, small, tmp_path, capsys):
        out = tmp_path / "out.rtdc"
        run("compress", small, out)
        assert run("verify", out) == 0
        assert run("verify", out, small) == 0
        other = recipes.small_measurement(tmp_path / "other.rtdc", seed=5)
        assert run("verify", out, other) == 1
        assert "events/deform" in capsys.readouterr().out
        assert run("verify", recipes.corrupt_chunk(tmp_path / "bad.rtdc")) == 1
        assert run("verify", tmp_path / "missing.rtdc") in (1, 64)


class TestWorkflowCommands:
    @pytest.fixture
    def config(self, tmp_path):
        raw = tmp_path / "raw"
        for n, name in enumerate(("one", "two")):
            recipes.small_measurement(raw / "a" / f"{name}.rtdc", seed=n)
        then = time.time() - 1000
        for path in raw.rglob("*"):
            os.utime(path, (then, then))
        fields = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": "c"}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"input": {"root": str(raw)}, "datasets": {"defaults": fields}}))
        return path

    def test_plan_says_and_writes_nothing(self, config, tmp_path, capsys):
        before = snapshot(tmp_path)
        assert run("-d", tmp_path / "work", "plan", "--configfile", config) == 0
        assert "to prepare: 2 measurements" in capsys.readouterr().out
        assert snapshot(tmp_path) == before

    def test_plan_prints_names_that_are_no_text(self, config, tmp_path, capsys):
        (tmp_path / "raw/a/stray \udce4 \x1b[2J.rtdc").write_text("no measurement")
        assert run("-d", tmp_path / "work", "plan", "--configfile", config) == 0
        text = capsys.readouterr().out
        assert "\\xe4" in text
        assert "\x1b" not in text

    @pytest.mark.parametrize("text", ["- a", "", "input: {root: /nowhere}", "inptu: {}"])
    def test_plan_with_a_bad_configuration(self, tmp_path, capsys, text):
        (tmp_path / "c.yaml").write_text(text)
        assert run("-d", tmp_path / "work", "plan", "--configfile", tmp_path / "c.yaml") == 64
        assert "c.yaml" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("metadata", "words"),
        [
            ("{from_path: [{match: '(?P<x>a', set: {setup:medium: x}}]}", "rule 1"),
            ("{columns: ['setup:medum']}", "did you mean 'setup:medium'"),
        ],
    )
    def test_plan_checks_what_a_run_would(self, config, tmp_path, capsys, metadata, words):
        config.write_text(f"{config.read_text()}\nmetadata: {metadata}\n")
        assert run("-d", tmp_path / "work", "plan", "--configfile", config) == 64
        assert words in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "dcorflow", "check", str(tmp_path / "missing.rtdc")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "no such file" in done.stderr
