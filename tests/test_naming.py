"""Identifiers and names: readable, stable, accepted by DCOR."""

from __future__ import annotations

import re

import pytest
from dcoraid.upload.job import VALID_RESOURCE_REGEXP, valid_resource_name
from dcoraid.upload.task import assert_task_id_is_valid
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow.naming import is_generic, natural_key, resource_name, short_hash, slug, to_ascii, unique

CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF
)
NAMES = st.text(CHARACTERS, min_size=1, max_size=300)
FAST = settings(deadline=None, database=None, max_examples=200)


@FAST
@given(path=NAMES)
def test_slugs_are_task_ids_of_bounded_length(path):
    name = slug(path)
    assert re.fullmatch(r"[a-z0-9_-]{1,80}", name)
    assert_task_id_is_valid(name)
    assert name == slug(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("2024-03-12_Blood_Müller lab", "2024-03-12-blood-mueller-lab"),
        ("Größe/Ångström/µm", "groesse_aangstroem_um"),
        ("Mu\u0308ller", "mueller"),
        ("a/b", "a_b"),
        ("細胞", "data"),
        ("", "data"),
        ("../../etc/passwd", "etc_passwd"),
        ("a'; rm -rf $HOME\n", "a-rm-rf-home"),
    ],
)
def test_slugs_are_readable(path, expected):
    assert slug(path) == expected


def test_long_slugs_differ_where_their_paths_differ_at_the_end():
    assert slug("x" * 200 + "1") != slug("x" * 200 + "2")


@FAST
@given(name=NAMES, folder=NAMES)
def test_resource_names_have_only_what_dcor_takes(name, folder):
    for text in (resource_name(name), resource_name(f"{name}.RTDC", folder)):
        assert re.match(VALID_RESOURCE_REGEXP, text)
        assert not text.startswith(".")
        assert "/" not in text and text not in ("", ".", "..")
    made = resource_name(f"{name}.rtdc", folder)
    assert made.endswith(".rtdc")
    assert valid_resource_name(made) == made  # dcoraid leaves it as it is


@FAST
@given(name=NAMES)
def test_resource_names_fit_file_systems(name):
    assert len(resource_name(name).encode()) <= 255


def test_long_suffixes_fit_file_systems():
    assert len(resource_name("a." + "b" * 240, "")) <= 200


@FAST
@given(names=st.lists(st.sampled_from(["a.rtdc", "A.rtdc", "a_2.rtdc", "a_2.RTDC", "b", "B"]), max_size=12))
def test_unique_names_are_unique_whatever_their_case(names):
    taken: set[str] = set()
    given_names = []
    for name in names:
        given_names.append(unique(name, taken))
        taken.add(given_names[-1].lower())
    assert len(taken) == len(names)
    assert all(n.rpartition(".")[2].lower() in ("rtdc", n.lower()) for n in given_names)


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("M0001_data.rtdc", "Blood Müller", "Blood_Mueller_M0001_data.rtdc"),
        ("M1.rtdc", "2024", "2024_M1.rtdc"),
        ("HL60 100nM.RTDC", "2024", "HL60_100nM.rtdc"),
        ("HL60 [1+2],(3).rtdc", "", "HL60_[1+2],(3).rtdc"),
        ("..rtdc", "", "file.rtdc"),
        ("notes.TXT", "x", "notes.txt"),
    ],
)
def test_resource_names(name, folder, expected):
    assert resource_name(name, folder) == expected


@pytest.mark.parametrize("name", ["M1_data.rtdc", "M0001_data.rtdc", "m2.RTDC", "data.rtdc"])
def test_generic_names(name):
    assert is_generic(name)


@pytest.mark.parametrize("name", ["M1_cells.rtdc", "blood.rtdc", "M1_data.txt", "xM1_data.rtdc"])
def test_telling_names(name):
    assert not is_generic(name)


def test_numbers_sort_by_value():
    names = ["M10_data", "M2_data", "m1_data", "M2_b", "10", "9", "x"]
    assert sorted(names, key=natural_key) == ["9", "10", "m1_data", "M2_b", "M2_data", "M10_data", "x"]


@FAST
@given(names=st.lists(NAMES, max_size=6))
def test_any_names_can_be_sorted(names):
    assert len(sorted(names, key=natural_key)) == len(names)


@pytest.mark.parametrize("name", ["Exp 10²", "5²/M1.rtdc", "1①", "٣ Zellen", "x½"])
def test_superscripts_and_other_digits_can_be_sorted(name):
    assert natural_key(name) == natural_key(name)


@FAST
@given(text=NAMES)
def test_ascii_is_ascii(text):
    assert to_ascii(text).isascii()


def test_hashes():
    assert short_hash("a", "b") != short_hash("ab")
    assert re.fullmatch("[0-9a-f]{8}", short_hash("\udcff"))
    assert short_hash("x") == "2d711642"
