"""Which value wins, with which type, and what is refused with which words."""

from __future__ import annotations

import datetime
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow.dclab_parts import definitions
from dcorflow.errors import UsageError
from dcorflow.metadata.fields import make_title, missing_fields, resolve_dataset, title_problems
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.keys import convert_value
from dcorflow.metadata.resolve import Resolver
from dcorflow.metadata.sheet import DatasetSheet, MeasurementSheet
from dcorflow.source.walk import walk

FIELDS = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": "my-circle"}


def configure(title="{directory}", by="directory", defaults=None, **metadata):
    if "defaults_of_files" in metadata:
        metadata["defaults"] = metadata.pop("defaults_of_files")
    return {
        "metadata": {"from_path": [], "force": []} | metadata,
        "datasets": {"by": by, "title": title, "defaults": FIELDS if defaults is None else defaults},
    }


@pytest.fixture
def folders(tmp_path):
    """Give a function that writes folder files (`{"a/b": text}`) and reads them."""

    def write(texts):
        for folder, text in texts.items():
            (tmp_path / "raw" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "raw" / folder / "dcorflow.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "raw").mkdir(exist_ok=True)
        return FolderSettings([walk(tmp_path / "raw", ["*"], [])])

    return write


def resolve(config, settings_of_folders, source="a/b/M1.rtdc"):
    wanted, wrong = _resolve(config, settings_of_folders, source)
    assert wrong == []
    return wanted


def _resolve(config, settings_of_folders, source="a/b/M1.rtdc"):
    return Resolver(config, settings_of_folders, MeasurementSheet(None, [])).resolve("m", "raw", source)


def values(wanted):
    return {e.key: (e.value, e.mode) for e in wanted.edits}


class TestPrecedence:
    def test_the_nearest_wins(self, folders):
        files = folders(
            {
                "": "metadata: {defaults: {'setup:medium': root, 'setup:chip region': channel}}",
                "a": "metadata: {defaults: {'setup:medium': a}}",
                "a/b": "metadata: {defaults: {'setup:medium': b}}",
                "c": "metadata: {defaults: {'setup:medium': c}}",
            }
        )
        config = configure()
        config["metadata"]["defaults"] = {"setup:medium": "config", "setup:temperature": 23}
        assert values(resolve(config, files)) == {
            "setup:medium": ("b", "fill"),
            "setup:chip region": ("channel", "fill"),
            "setup:temperature": (23.0, "fill"),
        }
        assert values(resolve(config, files, "a/M1.rtdc"))["setup:medium"] == ("a", "fill")
        assert values(resolve(config, files, "M1.rtdc"))["setup:medium"] == ("root", "fill")

    def test_single_measurements_are_nearest(self, folders):
        files = folders(
            {
                "a": "metadata: {defaults: {'setup:medium': a}}\n"
                "measurements:\n"
                "  M1.rtdc: {metadata: {defaults: {'setup:medium': one}}}\n"
                "  'M[23].rtdc': {metadata: {defaults: {'setup:medium': more}}}\n"
            }
        )
        config = configure()
        got = [values(resolve(config, files, f"a/M{n}.rtdc"))["setup:medium"][0] for n in (1, 2, 4)]
        assert got == ["one", "more", "a"]
        assert files.unused() == []

    def test_an_override_far_away_beats_a_default_nearby(self, folders):
        files = folders({"a/b": "metadata: {defaults: {'setup:medium': b}}"})
        wanted = resolve(configure(override={"setup:medium": "all"}), files)
        assert values(wanted) == {"setup:medium": ("all", "replace")}

    def test_the_nearest_override_wins(self, folders):
        files = folders({"a": "metadata: {override: {'setup:medium': a}}"})
        wanted = resolve(configure(override={"setup:medium": "all"}), files)
        assert values(wanted) == {"setup:medium": ("a", "replace")}
        assert (wanted.edits[0].kind, wanted.edits[0].where) == ("folder override", "a/dcorflow.yaml")

    def test_supplements_join_by_key(self, folders):
        files = folders({"a": "metadata: {supplements: {'cells:organism': mouse, 'sp:chip:maker': x}}"})
        wanted = resolve(configure(supplements={"cells:organism": "human", "cells:cell type": "t"}), files)
        assert wanted.supplements == {
            "cells": {"organism": "mouse", "cell type": "t"},
            "chip": {"maker": "x"},
        }

    def test_ignored_findings_add_up(self, folders):
        files = folders({"": "ignore: [x]", "a": "ignore: [y]\nmeasurements: {M1.rtdc: {ignore: [z]}}"})
        assert resolve(configure(), files, "a/M1.rtdc").ignore == ["x", "y", "z"]

    @settings(deadline=None, database=None, max_examples=40)
    @given(seed=st.integers(0, 2**32))
    def test_the_order_of_keys_does_not_matter(self, seed):
        keys = {"setup:medium": "x", "setup:temperature": 20, "experiment:sample": "s", "user:b": 1}
        shuffled = list(keys)
        random.Random(seed).shuffle(shuffled)
        files = FolderSettings([])
        given = resolve(configure(defaults_of_files=keys), files)
        other = {k: keys[k] for k in shuffled}
        assert resolve(configure(defaults_of_files=other), files) == given


class TestUse:
    def test_no_with_a_reason(self, folders):
        files = folders({"a": "use: no\nreason: only tests"})
        assert resolve(configure(), files, "a/b/M1.rtdc").left_out == "only tests"
        assert resolve(configure(), files, "c/M1.rtdc").left_out == ""

    def test_yes_nearby_takes_it_in_again(self, folders):
        files = folders({"a": "use: no\nreason: only tests\nmeasurements: {M1.rtdc: {use: yes}}"})
        assert resolve(configure(), files, "a/M1.rtdc").left_out == ""
        assert resolve(configure(), files, "a/M2.rtdc").left_out == "only tests"

    @pytest.mark.parametrize("text", ["use: no", "measurements: {M1.rtdc: {use: no}}"])
    def test_no_without_a_reason_is_refused(self, folders, text):
        with pytest.raises(UsageError, match=r"a/dcorflow.yaml.*reason"):
            folders({"a": text})

    def test_entries_that_match_nothing_are_reported(self, folders):
        files = folders({"a": "measurements: {M7.rtdc: {use: yes}}"})
        resolve(configure(), files, "a/M1.rtdc")
        (text,) = files.unused()
        assert "M7.rtdc" in text


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("metdata: {}", "did you mean 'metadata'"),
            ("dataset: {autors: [x]}", "dataset.autors"),
            ("dataset: {private: maybe}", "dataset.private"),
            ("- a", "expected a mapping"),
            ("just text", "expected a mapping"),
            ("measurements: {M1.rtdc: [x]}", "measurements.M1.rtdc"),
            ("a: [", "not valid YAML"),
        ],
    )
    def test_folder_files(self, folders, text, words):
        with pytest.raises(UsageError) as caught:
            folders({"a": text})
        assert words in str(caught.value)
        assert "a/dcorflow.yaml" in str(caught.value)

    def test_all_folder_files_at_once(self, folders):
        with pytest.raises(UsageError) as caught:
            folders({"a": "x: 1", "b": "y: 1"})
        assert len(str(caught.value).splitlines()) == 3

    def test_an_empty_folder_file_says_nothing(self, folders):
        assert folders({"a": "# nothing\n"}).layers("raw", "a/M1.rtdc")[0].settings == {}

    @pytest.mark.parametrize("part", ["defaults", "override"])
    def test_wrong_keys_and_types_name_their_place(self, folders, part):
        files = folders({"a": f"metadata: {{{part}: {{'setup:medum': x, 'imaging:roi size x': 3.5}}}}"})
        _, wrong = _resolve(configure(), files, "a/M1.rtdc")
        assert len(wrong) == 2
        assert all(w.startswith(f"a/dcorflow.yaml: metadata.{part}: ") for w in wrong)
        assert "did you mean 'setup:medium'?" in wrong[0]
        assert "whole number" in wrong[1]


class TestTypes:
    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("setup:medium", " CellCarrierB ", "CellCarrierB"),
            ("setup:flow rate", "0.06", 0.06),
            ("setup:flow rate", 1, 1.0),
            ("imaging:roi size x", 250, 250),
            ("imaging:roi size x", "250", 250),
            ("imaging:roi size x", 250.0, 250),
            ("experiment:run index", 3, 3),
            ("experiment:time", "10:30:00", "10:30:00"),
            ("experiment:date", "2024-03-12", "2024-03-12"),
            ("experiment:date", datetime.date(2024, 3, 12), "2024-03-12"),
            ("online_contour:bg empty", True, True),
            ("user:anything", 5, 5),
        ],
    )
    def test_values(self, key, value, expected):
        converted = convert_value(key, value)
        assert (converted, type(converted)) == (expected, type(expected))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("setup:medum", "x"),
            ("medium", "x"),
            ("filtering:limit events", 3),
            ("setup:medium", None),
            ("setup:medium", ""),
            ("setup:medium", {"a": 1}),
            ("setup:medium", False),  # YAML makes this of `no`, `off`
            ("setup:flow rate", "fast"),
            ("setup:flow rate", True),
            ("setup:flow rate", "nan"),
            ("imaging:roi size x", 1.5),
            ("imaging:roi size x", True),
            ("online_contour:bg empty", "maybe"),
            ("experiment:time", 37800),  # YAML 1.1 makes this of 10:30:00
            ("experiment:time", 37800.5),
            ("user:list", ["a", "b"]),  # HDF5 attributes hold no lists of text
        ],
    )
    def test_refused(self, key, value):
        with pytest.raises(ValueError, match=key):
            convert_value(key, value)

    def test_definitions_are_those_of_dclab(self):
        import dclab.definitions as real

        parts = definitions()
        assert parts is not real
        assert parts.config_keys == real.config_keys
        for name in ("deform", "image", "trace", "userdef0", "ml_score_abc", "nonsense"):
            assert parts.feature_exists(name) == real.feature_exists(name)


class TestSettings:
    def test_titles_know_the_groups_of_the_expression(self):
        config = configure()
        config["datasets"] |= {"by": r"^(?P<dataset>[^/]+)/(?P<what>[^/]+)/", "title": "{what} of {dataset}"}
        assert title_problems(config) == []
        config["datasets"]["title"] = "{who}"
        (problem,) = title_problems(config)
        assert "{who}" in problem
        assert "what" in problem

    @pytest.mark.parametrize("name", ["dcorflow.yml", "Dcorflow.yaml", "dcor-flow.yaml", "dcorflow.yaml.txt"])
    def test_settings_files_with_a_wrong_name_are_not_overlooked(self, tmp_path, name):
        (tmp_path / "raw" / "a").mkdir(parents=True)
        (tmp_path / "raw" / "a" / name).write_text("use: no\nreason: consent withdrawn\n")
        with pytest.raises(UsageError, match=name) as caught:
            FolderSettings([walk(tmp_path / "raw", ["*"], [])])
        assert "dcorflow.yaml" in str(caught.value)


class TestDatasets:
    def dataset(self, config, files, *sources):
        return resolve_dataset(
            config, files, DatasetSheet(None, []), "a", "a", [("raw", s) for s in sources or ("a/M1.rtdc",)]
        )

    def test_private_unless_said_otherwise(self, folders):
        assert self.dataset(configure(), folders({}))[0]["private"] is True
        files = folders({"a": "dataset: {private: false}"})
        assert self.dataset(configure(), files)[0]["private"] is False

    def test_folders_beat_defaults_and_the_nearest_wins(self, folders):
        near = "dataset: {references: near, title: T}"
        files = folders({"": "dataset: {references: far, notes: n}", "a": near})
        fields, wrong = self.dataset(configure(), files)
        assert wrong == []
        assert fields == FIELDS | {"private": True, "references": "near", "notes": "n", "title": "T"}

    def test_contradictions_name_both_places(self, folders):
        files = folders({"a/x": "dataset: {title: One}", "a/y": "dataset: {title: Two}"})
        for sources in (("a/x/M1.rtdc", "a/y/M1.rtdc"), ("a/y/M1.rtdc", "a/x/M1.rtdc")):
            _, wrong = self.dataset(configure(), files, *sources)
            assert len(wrong) == 1
            assert all(w in wrong[0] for w in ("'title'", "One", "Two", "a/x/", "a/y/"))

    def test_equal_values_contradict_nothing(self, folders):
        files = folders({"a/x": "dataset: {title: One}", "a/y": "dataset: {title: One}"})
        assert self.dataset(configure(), files, "a/x/M1.rtdc", "a/y/M1.rtdc")[1] == []

    def test_single_measurements_have_no_dataset_fields(self, folders):
        with pytest.raises(UsageError):
            folders({"a": "measurements: {M1.rtdc: {dataset: {title: x}}}"})

    def test_an_unknown_licence_is_told_once_where_it_stands(self, folders):
        config, said = configure(defaults=FIELDS | {"license_id": "CC-BY-9.9"}), "license_id: CC-BY-8.8"
        files = folders({"b": f"dataset: {{{said}}}"})
        wrong = [w for place in "abc" for w in self.dataset(config, files, f"{place}/M1.rtdc")[1]]
        hint = "DCOR has no licence 'CC-BY-9.9'; did you mean 'CC-BY-4.0'?"
        assert [w for w in wrong if "9.9" in w] == [f"configuration, datasets.defaults: {hint}"] * 2
        (other,) = [w for w in wrong if "8.8" in w]
        assert "b/dcorflow.yaml" in other

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ("doi: 10.1038/nmeth.3281", ""),
            ("doi: 'https://doi.org/10.1000/abc(12)34-x'", ""),
            ("doi: notadoi", "expected a DOI such as"),
            ("doi: 'doi:10.1000/x'", "expected a DOI such as"),
            ("tags: [blood cells, HL60-S4, Zürich 1.2]", ""),
            ("tags: [blood, r@c, a/b]", "found 'r@c', 'a/b'"),
        ],
    )
    def test_what_dcor_would_refuse_or_keep_for_good(self, folders, said, words):
        _, wrong = self.dataset(configure(), folders({"a": f"dataset: {{{said}}}"}))
        assert bool(wrong) == bool(words)
        assert all("a/dcorflow.yaml" in w and words in w for w in wrong)

    def test_missing_fields(self, folders):
        fields, wrong = self.dataset(configure(defaults=dict.fromkeys(FIELDS)), folders({}))
        assert wrong == []
        assert missing_fields(fields) == ["authors", "license_id", "owner_org"]


class TestTitles:
    @pytest.mark.parametrize(
        ("title", "by", "source", "expected"),
        [
            ("{directory}", "directory", "x/Blood Müller/M1.rtdc", "Blood Müller"),
            ("{path}", "directory", "x/y/M1.rtdc", "x/y"),
            ("{directory}", "directory", "M1.rtdc", "raw"),
            ("{dataset}: {day}", r"(?P<day>\d+)/(?P<dataset>\w+)", "2024/blood/M1.rtdc", "blood: 2024"),
            ("RT-DC of {directory}", "directory", "a\n b/M1.rtdc", "RT-DC of a b"),
            ("{{x}} {directory}", "directory", "a/M1.rtdc", "{x} a"),
            ("{directory}", "directory", "{path}/M1.rtdc", "{path}"),
        ],
    )
    def test_templates(self, title, by, source, expected):
        by_key = source.rpartition("/")[0] if by == "directory" else "blood"
        assert make_title(configure(title, by), by_key, [("raw", source)]) == expected

    @pytest.mark.parametrize("title", ["{nothing}", "{directory!r}", "{directory:>99999999}", "{0}", "{"])
    def test_unknown_placeholders_are_refused(self, folders, title):
        _, wrong = resolve_dataset(
            configure(title), folders({}), DatasetSheet(None, []), "a", "a", [("raw", "a/M1.rtdc")]
        )
        assert len(wrong) == 1
        assert "datasets.title" in wrong[0]
