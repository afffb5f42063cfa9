"""Stack text: the grammar of docs/stack-text.md, its canonical form, what people see of it, its mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleancache.errors import SpecError
from cleancache.spec import (
    MAX_SIZE,
    Share,
    Tier,
    did_you_mean,
    parse_bool,
    parse_duration,
    parse_limit,
    parse_size,
    parse_stack,
    printable_text,
    size_text,
    stack_text,
    with_limit,
)

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.text("%aF2=:+,", min_size=1)
TIERS = st.builds(
    Tier,
    NAMES.filter(lambda name: name != "none"),
    st.dictionaries(NAMES, VALUES, max_size=3).map(lambda options: tuple(options.items())),
    st.none() | VALUES,
)


@given(st.lists(TIERS, max_size=3).map(tuple))
def test_canonical_text_of_any_tiers_parses_to_the_same_tiers(tiers: tuple[Tier, ...]) -> None:
    text = stack_text(tiers)

    assert parse_stack(text) == tiers
    assert stack_text(parse_stack(text)) == text


@given(st.lists(TIERS, min_size=1, max_size=3).map(tuple))
def test_canonical_text_survives_mount_fstab_a_shell_and_a_url(tiers: tuple[Tier, ...]) -> None:
    text = stack_text(tiers)

    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(" ,'\"`|\\$&;<>()#*!")


@given(st.text(max_size=40))
def test_any_text_parses_or_is_one_clear_sentence(text: str) -> None:
    try:
        tiers = parse_stack(text)
    except SpecError as fault:
        message = str(fault)
        assert "\n" not in message
        assert len(message) < 400
    else:
        assert parse_stack(stack_text(tiers)) == tiers


@given(st.text("abz:=+%25,+ |_", max_size=20))
def test_text_made_of_the_grammars_own_characters_parses_or_is_refused(text: str) -> None:
    try:
        tiers = parse_stack(text)
    except SpecError:
        return
    assert parse_stack(stack_text(tiers)) == tiers


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("none", ()),
        ("zcache", (Tier("zcache"),)),
        (" zcache:2G ", (Tier("zcache", (), "2G"),)),
        ("zcache:25%", (Tier("zcache", (), "25%"),)),
        ("zcache:25%25", (Tier("zcache", (), "25%"),)),
        ("zcache:codec=zstd:512M+tmem", (Tier("zcache", (("codec", "zstd"),), "512M"), Tier("tmem"))),
        (
            "tmem+ramster:timeout=20ms:redis://cache.lan:6379",
            (Tier("tmem"), Tier("ramster", (("timeout", "20ms"),), "redis://cache.lan:6379")),
        ),
        ("a:b=1%2C2:%20x", (Tier("a", (("b", "1,2"),), " x"),)),
        ("a:b=1=2", (Tier("a", (("b", "1=2"),)),)),
        ("a:redis://h:1/0?db=1", (Tier("a", (), "redis://h:1/0?db=1"),)),
        ("a:x%3Dy", (Tier("a", (), "x=y"),)),
        ("a:%zz%4", (Tier("a", (), "%zz%4"),)),
        ("a:caf%C3%A9", (Tier("a", (), "café"),)),
        ("a:café", (Tier("a", (), "café"),)),
    ],
)
def test_the_grammar_by_example(text: str, tiers: tuple[Tier, ...]) -> None:
    assert parse_stack(text) == tiers


def test_I9_the_order_of_options_and_the_way_of_encoding_make_no_other_stack() -> None:
    assert stack_text(parse_stack("t:b=2:a=1:%78")) == stack_text(parse_stack("t:a=1:b=%32:x")) == "t:a=1:b=2:x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  ", "none"),
        ("a++b", "missing"),
        ("a+", "missing"),
        ("a,b", "%2C"),
        ("a b", "%20"),
        ("a:'x'", "%27"),
        ("a|b", "%7C"),
        ("Zcache", "lower-case"),
        ("1a", "lower-case"),
        (":2G", "lower-case"),
        ("zcache:", "256M"),
        ("zcache:codec=", "codec=VALUE"),
        ("zcache:codec=a:codec=b", "twice"),
        ("zcache:2=x", "%3D"),
        ("zcache:/run/a=b", "%3D"),
        ("none+zcache", "alone"),
        ("none:x=1", "alone"),
    ],
)
def test_a_mistake_says_what_was_asked_and_what_to_write(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says.replace("%", "%")) as caught:
        parse_stack(text)
    assert "\n" not in str(caught.value)


def test_a_stack_that_is_no_text_is_refused() -> None:
    with pytest.raises(SpecError, match="text such as"):
        parse_stack(3)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("r:redis://me:pw@cache.lan:6379", "r:redis://cache.lan:6379"),
        ("r:redis://pw@h", "r:redis://h"),
        ("r:redis://me:p%40w@h", "r:redis://h"),
        ("r:redis://me:p%2Fw@h/0", "r:redis://h/0"),
        ("r:me:pw@h:1", "r:h:1"),
        ("r:password=x:db_token=y:Z", "r:db_token=***:password=***:Z"),
        ("r:client-secret=x", "r:client-secret=***"),
        ("r:redis://h/0?password=x%26db=1", "r:redis://h/0?password=***%26db=1"),
        ("t:/run/user@1/x", "t:/run/user@1/x"),
        ("zcache:25%", "zcache:25%"),
        ("none", "none"),
    ],
)
def test_P5_what_is_shown_has_no_credentials(text: str, shown: str) -> None:
    assert printable_text(parse_stack(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["r:password=hunter2:password=hunter2", "r:redis://me:hunter2@h, x", "r:token=hunter2:2=1", "r:secret=hunter2+"],
)
def test_P5_nor_has_a_message(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_stack(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        (4096, 4096),
        ("64K", 65536),
        ("64KiB", 65536),
        ("1M", 1 << 20),
        ("1.5G", 3 << 29),
        ("2 TiB", 2 << 40),
        ("1kB", 1000),
        ("5MB", 5_000_000),
        ("2GB", 2_000_000_000),
        ("1g", 1 << 30),
        ("100B", 100),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1X", "x", "1 2", "٣", "1e3", "25%", -1, True, MAX_SIZE + 1, "99999999T"])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(SpecError, match="is no size: sizes are"):
        parse_size(text)


def test_shares() -> None:
    assert parse_limit("25%") == Share(0.25)
    assert isinstance(parse_limit("25%"), Share)
    assert parse_limit("0.5 %") == Share(0.005)
    assert parse_limit(Share(0.5)) == Share(0.5)
    assert parse_limit("1M") == 1 << 20
    assert not isinstance(parse_limit("1M"), Share)


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "%", "x%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(SpecError, match="no share of memory"):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("30s", 30.0), ("5m", 300.0), ("2h", 7200.0), ("7", 7.0), (0, 0.0), (1.5, 1.5), ("1.5s", 1.5)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1d", "-1", "1h30m", "s", float("nan"), float("inf"), -1, True])
def test_what_is_no_duration(text: str | float) -> None:
    with pytest.raises(SpecError, match="is no duration: durations are"):
        parse_duration(text)


def test_yes_and_no() -> None:
    assert [parse_bool(word) for word in ("yes", "On", "1", "true", True)] == [True] * 5
    assert [parse_bool(word) for word in ("no", "off", "0", "FALSE", False)] == [False] * 5
    with pytest.raises(SpecError, match="neither yes nor no"):
        parse_bool("maybe")


@given(st.integers(0, 1 << 60))
def test_a_size_for_people_reads_back_about_the_same(size: int) -> None:
    assert parse_size(size_text(size)) == pytest.approx(size, rel=0.005)


def test_sizes_for_people() -> None:
    assert [size_text(n) for n in (0, 1023, 1024, 1300000000, (1 << 20) - 1)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.21 GiB",
        "1.00 MiB",
    ]


def test_the_nearest_word() -> None:
    assert did_you_mean("max_stael", ["max_stale", "pool"]) == "max_stale"
    assert did_you_mean("qqq", ["max_stale", "pool"]) is None


def test_a_limit_fills_in_where_zcache_names_none() -> None:
    assert stack_text(with_limit(parse_stack("zcache:codec=zstd+tmem"), "1G")) == "zcache:codec=zstd:1G+tmem"
    assert stack_text(with_limit(parse_stack("zcache:2G"), "1G")) == "zcache:2G"
