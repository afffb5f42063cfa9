"""The mount: any program reads through the cache (wish W3, the hooks of `docs/laws`, section 3).

`shape` says what a mount looks like: entries, attributes, openings; no library is known there. Two trees have that
shape: `directory` (read-write, every call goes through to the source) and `urls` (read-only, over fsspec). `session`
is the thin adapter to libfuse, loaded by mfusepy; with `binding` it alone knows the library, which can be changed by
measurement. `options` parses `-o`; `serve` is the life of one mount, from the connected stack to the last reply.
"""
