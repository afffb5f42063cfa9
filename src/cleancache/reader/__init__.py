"""Reading: byte ranges of named files, from the pool where the version allows it, from the source where it does not."""

from __future__ import annotations

from cleancache.reader.core import PAGE_SIZE, READAHEAD, Reader, live_readers
from cleancache.reader.opened import Opened

__all__ = ["PAGE_SIZE", "READAHEAD", "Opened", "Reader", "live_readers"]
