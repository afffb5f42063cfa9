"""How a page is stored: a header before every record, a checksum over all of it, and a closed table of codecs.

A record is `header + stored bytes`. Every field of the header is checked at every hit: the stamp (format and the life
of the Store it belongs to) and the name by equality with what was asked for, the meta word (codec, raw length, stored
length) by seeding the checksum of the stored bytes. Any difference is a miss and a counter, never an exception (D1,
D3, C10).

The header carries the whole handle and not a digest of it, since the walk that reclaims a segment must find the owner
of each record; 48 bytes are 0.07 % of a page of 64 KiB. Nothing in the data chooses code: an unknown codec number is
a miss, lengths are bounded before anything is allocated (D2, D4, D5, P9). No clock, no lock, no I/O. Two threads
never share a zstd context.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from lz4.block import LZ4BlockError
from lz4.block import compress as _lz4_compress
from lz4.block import decompress as _lz4_decompress
from xxhash import xxh3_64_intdigest

from cleancache.errors import SpecError

Buffer = bytes | bytearray | memoryview

HEADER: Final = struct.Struct("<QQQ40sQ")  # checksum, meta, stamp, pool + object, page
HEADER_BYTES: Final = HEADER.size
FORMAT: Final = 0x0001_6363  # 'cc' and a version of the format; goes into the upper half of the stamp
LENGTH_BITS: Final = 24
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1
CODEC_SHIFT: Final = 2 * LENGTH_BITS  # in the meta word

RAW: Final = 0
_ZSTD_LEVEL = 1  # level 3 is 2 % smaller at half the speed (bench/store.py, contents mix)


class Codec(NamedTuple):
    """A number that is stored, a name that is configured, and the function that compresses one page."""

    number: int
    name: str
    compress: Callable[[Buffer], bytes] | None


def meta_word(codec: int, raw_length: int, stored_length: int) -> int:
    """Codec and both lengths in one word, which also seeds the checksum.

    >>> meta_word(1, 65536, 100) >> 48, meta_word(1, 65536, 100) & LENGTH_MASK
    (1, 100)
    """
    return codec << CODEC_SHIFT | raw_length << LENGTH_BITS | stored_length


def stamp(epoch: int) -> int:
    """Format and the 32 random bits of the Store's life: a record of another life is nobody's."""
    return FORMAT << 32 | epoch


def checksum(stored: Buffer, seed: int) -> int:
    """xxh3 over the stored bytes, seeded with the meta word and the secret of the Store's life (D1)."""
    return xxh3_64_intdigest(stored, seed)


checksum_function: Final = xxh3_64_intdigest  # the same, without a call around it: for the hit


def pays(raw_length: int, stored_length: int) -> bool:
    """Say whether compressing was worth it: a page that does not shrink below 7/8 stays raw (law M7)."""
    return stored_length * 8 < raw_length * 7


def _compress_lz4(data: Buffer) -> bytes:
    result: bytes = _lz4_compress(data, store_size=False)
    return result


class _Zstd(threading.local):
    """One compressor and one decompressor a thread: the contexts are not thread-safe."""

    def __init__(self) -> None:
        import zstandard  # an extra: loaded when the first stack asks for it

        self.compress = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=False).compress
        self.decompress = zstandard.ZstdDecompressor().decompress
        self.error = zstandard.ZstdError


_zstd: _Zstd | None = None


def _compress_zstd(data: Buffer) -> bytes:
    assert _zstd is not None
    result: bytes = _zstd.compress(data)
    return result


def load(name: str) -> Codec:
    """The codec called *name*: `lz4` (default), `zstd` (an extra) or `none`.

    Raises: SpecError, if there is none of that name or its package is not installed.

    >>> load("lz4").number
    1
    """
    global _zstd
    if name == "none":
        return Codec(RAW, name, None)
    if name == "lz4":
        return Codec(1, name, _compress_lz4)
    if name == "zstd":
        try:
            _zstd = _zstd or _Zstd()
        except ImportError:
            raise SpecError(
                "codec=zstd was asked for and its package is not installed: pip install 'cleancache[zstd]'"
            ) from None
        return Codec(2, name, _compress_zstd)
    raise SpecError(f"codec={name} was asked for; allowed are lz4, zstd and none")


def decompress(number: int, stored: Buffer, raw_length: int) -> bytes | None:
    """The raw page, exactly *raw_length* bytes of it, or None if *stored* is not such a page.

    Laws: P9, D4, D5. The output is bounded by *raw_length* before anything is allocated: lz4 raises when there is
    more and is compared when there is less; zstd frames are written without their size, so that the bound is obeyed.
    """
    try:
        if number == 1:
            page: bytes = _lz4_decompress(stored, uncompressed_size=raw_length)
        elif number == 2 and _zstd is not None:
            page = _zstd.decompress(stored, max_output_size=raw_length)
        elif number == RAW:
            page = bytes(stored)
        else:
            return None
    except (LZ4BlockError, ValueError, OverflowError, MemoryError):
        return None
    except Exception as error:  # zstandard's error class is known only where it is installed
        if _zstd is not None and isinstance(error, _zstd.error):
            return None
        raise
    return page if len(page) == raw_length else None
