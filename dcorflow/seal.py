"""Checksums of a finished file, as DCOR compares them."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_BLOCK = 1 << 22
_GIB = 1 << 30


def part_size(size: int) -> int:
    """Return the bytes of one part of an upload to DCOR.

    A file is sent in equal parts of at most 1 GiB, the last one a few bytes smaller
    (`dcoraid.api.s3_api.compute_upload_part_parameters`).
    """
    parts = max(1, -(-size // _GIB))
    return -(-size // parts)


def sha256_of(path: Path) -> str:
    """Return the SHA256 of a file as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(path: Path) -> dict[str, str]:
    """Return ``sha256`` and ``etag`` of a file; a large one is read once per sum, in two threads.

    The ETag is what S3 computes for an upload in parts: the MD5 of the parts' MD5 sums and the
    number of parts; the plain MD5 where there is only one part (`dcoraid.common.etagsum`).
    """
    if path.stat().st_size <= _BLOCK:
        sha256, parts = sha256_of(path), _part_sums(path)
    else:
        with ThreadPoolExecutor(1) as pool:
            sum_up = pool.submit(sha256_of, path)
            parts = _part_sums(path)
        sha256 = sum_up.result()
    etag = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest() + f"-{len(parts)}"
    return {"sha256": sha256, "etag": etag if len(parts) > 1 else parts[0].hex()}


def _part_sums(path: Path) -> list[bytes]:
    sums = []
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        step = part_size(size)
        for start in range(0, max(size, 1), max(step, 1)):
            digest = hashlib.md5(usedforsecurity=False)
            left = min(step, size - start)
            while left > 0 and (block := stream.read(min(left, _BLOCK))):
                digest.update(block)
                left -= len(block)
            sums.append(digest.digest())
    return sums
