"""Checksums as DCOR and dcoraid compute them."""

from __future__ import annotations

import os
import threading

import pytest
from dcoraid import common
from dcoraid.api import s3_api

from dcorflow import seal

PART = 1000


@pytest.fixture
def small_parts(monkeypatch):
    """Make parts of at most 1000 bytes of those of at most 1 GiB, here and in dcoraid."""

    def parameters(size):
        parts = size // PART + (size % PART > 0)
        part = size // parts + (size % parts > 0)
        last = size - part * (parts - 1)
        return {"num_parts": parts, "part_size": part, "part_size_last": last, "file_size": size}

    monkeypatch.setattr(s3_api, "compute_upload_part_parameters", parameters)
    monkeypatch.setattr(seal, "_GIB", PART)


@pytest.mark.parametrize(
    "size", [1, 2, 998, 999, 1000, 1001, 1002, 1999, 2000, 2001, 2003, 3000, 3001, 9999, 10_001]
)
def test_equal_to_dcoraid(tmp_path, small_parts, size):
    path = tmp_path / f"{size}.rtdc"
    path.write_bytes(os.urandom(size))
    sums = seal.seal(path)
    assert sums == {"sha256": common.sha256sum(path), "etag": common.etagsum(path)}
    assert ("-" in sums["etag"]) == (size > PART)


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_equal_to_dcoraid_in_one_real_part(tmp_path, size):
    path = tmp_path / "a.rtdc"
    path.write_bytes(os.urandom(size))
    assert seal.seal(path) == {"sha256": common.sha256sum(path), "etag": common.etagsum(path)}


GIB = 1 << 30


@pytest.mark.parametrize("size", [1, GIB - 1, GIB, GIB + 1, 2 * GIB, 2 * GIB + 1, 7 * GIB - 3, 50 * GIB + 17])
def test_parts_are_those_of_dcoraid(size):
    assert seal.part_size(size) == s3_api.compute_upload_part_parameters(size)["part_size"]


def test_blocks_that_cross_parts(tmp_path, monkeypatch, small_parts):
    monkeypatch.setattr(seal, "_BLOCK", 7)
    path = tmp_path / "a.rtdc"
    path.write_bytes(os.urandom(2500))
    assert seal.seal(path)["etag"] == common.etagsum(path)


def test_an_empty_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert seal.seal(tmp_path / "a")["etag"] == "d41d8cd98f00b204e9800998ecf8427e"


def test_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(OSError):
        seal.seal(tmp_path / "missing")


def test_trouble_while_reading_is_no_checksum(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(seal.hashlib, "file_digest", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(OSError):
        seal.seal(tmp_path / "a")
