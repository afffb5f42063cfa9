"""Stack text, sizes, durations: one grammar and one parser for options, mounts, environment and files.

    stack = tier *("+" tier)        tier = kind *(":" key "=" value) [":" target]        none = no tier

`+`, `:` and `=` survive mount(8), fstab, a shell and a URL; commas, quotes, `|` and blanks do not, so they are
percent-encoded, as is whatever else might be misread. A `%` that no two hex digits follow stands for itself
(`zcache:25%` is a share). The target is the last part and may contain `:`; only in front of its first `:` must a `=` be
written `%3D`, or it would look like an option.

Equal stacks have equal canonical text (options sorted, one way to encode), and the text *is* the identity of a slot.
What is shown to people is `printable_text`, which never contains a credential (law P5). No clock, no lock, no I/O, and
no knowledge of kinds but one: the setting `limit` is meant for a zcache (`with_limit`). Every mistake is a `SpecError`
of one sentence: what was asked, what is allowed, what to do. Wish W3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cleancache.errors import SpecError

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_MISREAD = re.compile(r"[\s,|'\"`\x00-\x1f\x7f]")  # does not survive fstab, -o or a shell
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/@?[]%=")
_HEX = frozenset("0123456789abcdefABCDEF")
_SECRET = re.compile(r"password|passwd|passphrase|secret|token|credential|api_?key|access_?key", re.IGNORECASE)
_SECRET_IN_QUERY = re.compile(rf"(?i)([?&][^=&]*(?:{_SECRET.pattern})[^=&]*=)[^&#]*")
_USER_PART = re.compile(r"\A([A-Za-z][A-Za-z0-9.+-]*://)?(?(1).*|[^/]*)@", re.DOTALL)

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?\s*([A-Za-z]*)")
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[_letter] = _UNITS[_letter + "ib"] = 1024**_power
    _UNITS[_letter + "b"] = 1000**_power
_SIZES_ALLOWED = "sizes are a number with K, M, G, T or KiB … (1024ⁿ), kB, MB … (1000ⁿ) or nothing (bytes), as 512M"
MAX_SIZE = 2**63 - 1

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_DURATIONS_ALLOWED = "durations are a number with ms, s, m, h or nothing (seconds), as 30s"

_BOOLS = dict.fromkeys(("yes", "true", "on", "1"), True) | dict.fromkeys(("no", "false", "off", "0"), False)


class Share(float):
    """A part of the memory that this process may use: `25%` is Share(0.25)."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of a stack as it was asked for: its kind, its options by name, and where or how much (the target).

    Options are sorted by name, so that their order makes no difference. The kind decides what options and target mean.
    """

    kind: str
    options: tuple[tuple[str, str], ...] = ()
    target: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))

    @property
    def text(self) -> str:
        """The canonical text of this tier; it may contain a credential and is not for people.

        >>> Tier("zcache", (("codec", "zstd"),), "25%").text
        'zcache:codec=zstd:25%'
        """
        parts = [self.kind, *(f"{name}={_encode(value)}" for name, value in self.options)]
        if self.target is not None:
            first, colon, rest = self.target.partition(":")
            parts.append(_encode(first).replace("=", "%3D") + colon + _encode(rest, also=":"))
        return ":".join(parts)

    @property
    def printable(self) -> str:
        """What people, logs and metrics may see of this tier: no user part, no value of a secret option."""
        options = tuple((name, "***" if _SECRET.search(name) else value) for name, value in self.options)
        target = self.target
        if target is not None:
            target = _SECRET_IN_QUERY.sub(r"\1***", _USER_PART.sub(r"\1", target, count=1)) or "***"
        return replace(self, options=options, target=target).text.replace("%2A%2A%2A", "***")

    def option(self, name: str, default: str | None = None) -> str | None:
        """The value of the option *name*, or *default*."""
        return dict(self.options).get(name, default)


def parse_stack(text: str) -> tuple[Tier, ...]:
    """The tiers that *text* names, nearest first; `none` has none.

    Raises: SpecError, one sentence, for whatever does not parse.

    >>> parse_stack("zcache:codec=zstd:512M+tmem")[0]
    Tier(kind='zcache', options=(('codec', 'zstd'),), target='512M')
    """
    if not isinstance(text, str):
        raise SpecError(f"a stack is text such as 'zcache:256M'; got {text!r}")
    if not text.strip():
        raise SpecError("the stack is empty; name a tier such as 'zcache:256M', or write 'none' for no cache")
    text = text.strip()
    if bad := _MISREAD.search(text):
        code = "".join(f"%{byte:02X}" for byte in bad.group().encode())
        raise SpecError(
            f"{bad.group()!r} cannot stand in stack text {_shown(text)}; tiers are joined by '+', else write {code}"
        )
    if text == "none":
        return ()
    return tuple(_parse_tier(part, text) for part in text.split("+"))


def _parse_tier(part: str, stack: str) -> Tier:
    kind, *fields = part.split(":")
    if not part:
        raise SpecError(
            f"a tier is missing beside a '+' in {_shown(stack)}; write each tier as kind[:key=value][:target]"
        )
    if not _NAME.fullmatch(kind):
        raise SpecError(
            f"{_shown(kind)} in {_shown(stack)} is no kind of tier; kinds are lower-case words such as zcache"
        )
    if kind == "none":
        raise SpecError(f"'none' stands alone, not as in {_shown(stack)}; name tiers, or write just 'none'")
    options: dict[str, str] = {}
    for place, field in enumerate(fields):
        name, equals, value = field.partition("=")
        if not equals:
            target = _decode(":".join(fields[place:]))
            if not target:
                raise SpecError(
                    f"nothing follows the last ':' in {_shown(part)}; write a target such as zcache:256M, or no ':'"
                )
            return Tier(kind, tuple(options.items()), target)
        if not _NAME.fullmatch(name):
            raise SpecError(
                f"{_shown(name)} in {_shown(part)} is no name of an option; options are key=value, "
                "and a '=' in a target is written %3D"
            )
        if not value:
            raise SpecError(f"the option {name} in {_shown(part)} has no value; write {name}=VALUE or leave it out")
        if name in options:
            raise SpecError(f"the option {name} is given twice in {_shown(part)}; give it once")
        options[name] = _decode(value)
    return Tier(kind, tuple(options.items()), None)


def stack_text(tiers: Iterable[Tier]) -> str:
    """The canonical text: `parse_stack` of it gives equal tiers, and equal tiers give equal text. Not for people.

    >>> stack_text(parse_stack("tmem:b=2:a=1+zcache:%32%35%"))
    'tmem:a=1:b=2+zcache:25%'
    """
    return "+".join(tier.text for tier in tiers) or "none"


def printable_text(tiers: Iterable[Tier]) -> str:
    """The canonical text without secrets, for logs, labels and messages.

    >>> printable_text(parse_stack("ramster:password=x:redis://me:y@cache.lan:6379"))
    'ramster:password=***:redis://cache.lan:6379'
    """
    return "+".join(tier.printable for tier in tiers) or "none"


def with_limit(tiers: Iterable[Tier], limit: str) -> tuple[Tier, ...]:
    """*tiers*, where a zcache that names no limit takes *limit*.

    >>> stack_text(with_limit(parse_stack("zcache"), "256M"))
    'zcache:256M'
    """
    return tuple(
        replace(tier, target=limit) if tier.kind == "zcache" and tier.target is None else tier for tier in tiers
    )


def _encode(value: str, also: str = "") -> str:
    out: list[str] = []
    for place, char in enumerate(value):
        if char == "%":
            follow = value[place + 1 : place + 3]
            out.append("%25" if len(follow) == 2 and set(follow) <= _HEX else "%")
        elif char in _SAFE or char in also:
            out.append(char)
        else:
            out.extend(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
    return "".join(out)


def _decode(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw).decode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    """*text* as a message may quote it: without the user part of a URL or the value of a secret option."""
    text = re.sub(r"://[^+]*@", "://", text)
    text = re.sub(rf"(?i)([A-Za-z0-9_-]*(?:{_SECRET.pattern})[A-Za-z0-9_-]*=)[^:+]*", r"\1***", text)
    return repr(text if len(text) <= 120 else text[:119] + "…")


def parse_size(text: str | int) -> int:
    """Bytes. `K M G T` and `KiB …` are powers of 1024, `kB MB GB TB` powers of 1000, a bare number is bytes.

    >>> parse_size("64K"), parse_size("1.5 GiB"), parse_size("2GB")
    (65536, 1610612736, 2000000000)
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if 0 <= text <= MAX_SIZE:
            return int(text)
    elif isinstance(text, str) and (match := _SIZE.fullmatch(text.strip())):
        whole, part, unit = match[1], match[2] or "", _UNITS.get(match[3].lower())
        if unit is not None:
            size: int = int(whole + part) * unit // 10 ** len(part)
            if size <= MAX_SIZE:
                return size
    raise SpecError(f"{text!r} is no size: {_SIZES_ALLOWED}")


def parse_limit(text: str | int | Share) -> int | Share:
    """Bytes, or a share of the memory that this process may use.

    >>> parse_limit("512M"), parse_limit("25%")
    (536870912, 0.25)
    """
    if isinstance(text, Share):
        text = f"{float(text) * 100:g}%"
    if not isinstance(text, str) or not text.strip().endswith("%"):
        return parse_size(text)
    number = text.strip()[:-1].strip()
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", number) and 0 < float(number) <= 100:
        return Share(float(number) / 100)
    raise SpecError(f"{text!r} is no share of memory: write a number above 0 and up to 100 before the '%', as 25%")


def parse_duration(text: str | float) -> float:
    """Seconds. `ms s m h`, a bare number is seconds.

    >>> parse_duration("20ms"), parse_duration("5m"), parse_duration(3)
    (0.02, 300.0, 3.0)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if math.isfinite(text) and text >= 0:
            return float(text)
    elif isinstance(text, str) and (match := _DURATION.fullmatch(text.strip())):
        return float(match[1]) * _SECONDS[match[2]]
    raise SpecError(f"{text!r} is no duration: {_DURATIONS_ALLOWED}")


def parse_bool(text: str | bool) -> bool:
    """Yes or no.

    >>> parse_bool("yes"), parse_bool("off"), parse_bool(True)
    (True, False, True)
    """
    if isinstance(text, bool):
        return text
    if isinstance(text, str) and text.strip().lower() in _BOOLS:
        return _BOOLS[text.strip().lower()]
    raise SpecError(f"{text!r} is neither yes nor no: write yes, true, on, 1 or no, false, off, 0")


def size_text(n: int) -> str:
    """Bytes for people.

    >>> size_text(1300000000), size_text(65536), size_text(12)
    ('1.21 GiB', '64 KiB', '12 B')
    """
    size, unit = float(n), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(size, 2) < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size == int(size) else f"{size:.2f} {unit}"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that *word* was probably meant to be, or None.

    >>> did_you_mean("zcahe", ["tmem", "zcache"])
    'zcache'
    """
    from difflib import get_close_matches  # 3 ms that only a mistake should cost

    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return near[0] if near else None
