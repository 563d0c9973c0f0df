"""The native json and msgpack against Python's `json`, kombu and msgpack: same bytes out, same
values in, both directions."""

import enum
import json
import math
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from taskcore import _core
from taskcore.exceptions import DecodeError, EncodeError

DEPTH = 512

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.sampled_from(
        [
            0.0,
            -0.0,
            1e15,
            1e16,
            1e-4,
            1e-5,
            1.5e-5,
            5e-324,
            1.7976931348623157e308,
            123456789012345680.0,
        ]
    )
    | st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**64, 2**64 - 1])
)
utf8 = st.text()
fixed_zones = st.timezones() | st.integers(-1439, 1439).map(
    lambda m: timezone(timedelta(minutes=m))
)
typed = (
    st.binary()
    | st.text().map(str.encode)
    | st.datetimes()
    | st.datetimes(
        timezones=st.integers(-1439, 1439)
        .map(lambda m: st.just(timezone(timedelta(minutes=m))))
        .flatmap(lambda s: s)
    )
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
)


def trees(leaves, keys):
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=25
    )


json_keys = (
    st.text(st.characters(exclude_categories=[]))
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
)


def same(a, b):
    """Equality in which types count and NaN equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


# json


@given(trees(plain | typed, json_keys))
def test_json_is_written_as_kombu_writes_it(value):
    assert _core.dumps(value, "json") == kombu_json.dumps(value).encode()


@given(trees(plain | typed, st.text(st.characters(exclude_categories=[]))))
def test_json_comes_back_as_kombu_reads_it(value):
    text = kombu_json.dumps(value)
    assert same(_core.loads(text.encode(), "json"), kombu_json.loads(text))


@given(trees(plain, st.text()))
def test_json_in_other_spellings_is_read_as_python_reads_it(value):
    for text in (
        json.dumps(value, indent=3),
        json.dumps(value, separators=(",", ":")),
        json.dumps(value, ensure_ascii=False),
    ):
        try:
            data = text.encode()
        except UnicodeEncodeError:
            continue  # a lone surrogate has no UTF-8
        assert same(_core.loads(data, "json"), json.loads(text))


JSON_TEXTS = [
    "",
    " ",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "{",
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,',
    '{"a":1,}',
    "{1:2}",
    "{a:1}",
    '"a',
    '"\\',
    '"\\x"',
    '"\\u12"',
    '"\\u12g4"',
    '"\x01"',
    '"\n"',
    "01",
    "-",
    "-a",
    "+1",
    "1.",
    ".5",
    "1.e5",
    "1e",
    "1e+",
    "0x1",
    "nul",
    "True",
    "nan",
    "-NaN",
    "Infinit",
    "1 2",
    "[1] x",
    "null",
    " null ",
    "-0",
    "-0.0",
    "1e5",
    "1E+5",
    "1e-5",
    "-Infinity",
    "NaN",
    "Infinity",
    "1e999",
    '"\\/\\b\\f\\n\\r\\t\\"\\\\"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\ude00\\ud83d"',
    '"\\ud83d\\u0041"',
    '"\\ud83dx"',
    "[ ]",
    "{ }",
    '{"a": 1, "a": 2}',
    "[1 ,2]",
    '{"a" :1 , "b":2}',
    "123456789012345678",
    "1234567890123456789",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "1" * 400,
    "\t\r\n [1]\n",
    "\x0b1",
    "\ufeff1",
    '"\x7f"',
    '"é"',
    "[]]",
    "00",
    "-01",
    "1_0",
    "[1.5.2]",
]


def name_of(value: object) -> str:
    """Name of a case, the same in every process: without the address of an object."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize("text", JSON_TEXTS)
def test_json_grammar_is_pythons(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(DecodeError, match="cannot decode json at byte"):
            _core.loads(text.encode(), "json")
    else:
        assert same(_core.loads(text.encode(), "json"), expected)


@given(st.binary())
def test_any_bytes_give_a_value_or_a_decode_error(data):
    for name in ("json", "msgpack"):
        try:
            _core.loads(data, name)
        except DecodeError as error:
            assert f"cannot decode {name} at byte" in str(error)


@given(trees(plain, st.text()), st.data())
def test_damaged_json_is_accepted_exactly_where_python_accepts_it(value, data):
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text)))
    damaged = (
        text[:cut]
        + data.draw(st.text(st.sampled_from('[]{},:"\\0123456789eE+-. untrfalse'), max_size=3))
        + text[cut + 1 :]
    )
    try:
        expected = json.loads(damaged)
    except ValueError:
        with pytest.raises(DecodeError):
            _core.loads(damaged.encode(), "json")
    else:
        assert same(_core.loads(damaged.encode(), "json"), expected)


def test_json_invalid_utf8():
    with pytest.raises(DecodeError, match="at byte 2: invalid UTF-8"):
        _core.loads(b'["\xff"]'.replace(b"[", b"[", 1), "json")


# unusual objects, written as kombu writes them


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Shout(str):
    def __str__(self):
        return "LOUD"


class Loud(int):
    def __repr__(self):
        return "loud"


class Real(float):
    def __repr__(self):
        return "real"


class Custom:
    def __init__(self, value):
        self.value = value

    def __json__(self):
        return self.value


class Stamped(datetime):
    def isoformat(self, *args):
        return "mine"


class Money(Decimal):
    pass


class Bytes(bytes):
    pass


class JsonBytes(bytes):
    def __json__(self):
        return [1]


Pair = namedtuple("Pair", "a b")
ordered = OrderedDict(a=1, b=2)
ordered.move_to_end("a")

UNUSUAL = [
    Colour.RED,
    Level.HIGH,
    Shout("quiet"),
    Loud(5),
    Loud(2**80),
    Real(1.5),
    Custom({"a": (1, 2)}),
    Custom(None),
    Custom(Custom(uuid.UUID(int=5))),
    Stamped(2020, 1, 1),
    Money("1.50"),
    Bytes(b"abc"),
    Bytes(b"\xff"),
    JsonBytes(b"x"),
    Pair(1, "x"),
    ordered,
    Counter("aab"),
    defaultdict(list, x=[1]),
    {
        Level.HIGH: 1,
        Colour.RED: 2,
        Shout("key"): 3,
        True: 4,
        None: 5,
        1.5: 6,
        float("nan"): 7,
        2**70: 8,
        Loud(9): 10,
        Real(2.5): 1,
    },
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2020, 1, 1, 1, 2, 3, 4),
    date(2020, 1, 2),
    time(1, 2, 3, tzinfo=UTC),
    Decimal("NaN"),
    Decimal("1E+5"),
    (1, (2, (3,))),
    b"",
    b"\xff\x00",
    "\ud800",
    "a\udfffb",
    "\x7f\x00\x1f",
    "\U0001f600 é",
]


@pytest.mark.parametrize("value", UNUSUAL, ids=name_of)
def test_unusual_objects_are_written_as_kombu_writes_them(value):
    for wrapped in (value, [value], {"k": value}):
        assert _core.dumps(wrapped, "json") == kombu_json.dumps(wrapped).encode()


@pytest.mark.parametrize(
    "value",
    [
        {1},
        object(),
        object,
        1j,
        bytearray(b"x"),
        range(3),
        enum.Enum("E", "A").A,
        {(1, 2): 3},
        {b"k": 1},
    ],
    ids=name_of,
)
def test_what_kombu_refuses_is_refused(value):
    with pytest.raises(TypeError):
        kombu_json.dumps(value)
    with pytest.raises(EncodeError):
        _core.dumps(value, "json")


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_the_error_names_type_place_and_remedy(name):
    with pytest.raises(
        EncodeError,
        match=rf"cannot encode `set` at value\[1\]\.a\[\"b c\"\] with {name}: expected .*`pickle`",
    ):
        _core.dumps([0, {"a": {"b c": {1}}}], name)
    with pytest.raises(EncodeError, match=r"dict key of type `tuple` at value\.x with"):
        _core.dumps({"x": {(1,): 2}}, name)


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_nesting_ends_at_the_limit(name):
    def nested(depth, wrap):
        value = None
        for _ in range(depth):
            value = wrap(value)
        return value

    for wrap in (lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: OrderedDict(k=v)):
        fits = _core.dumps(nested(DEPTH, wrap), name)
        assert _core.dumps(_core.loads(fits, name), name) == fits
        with pytest.raises(EncodeError, match="nested deeper than 512 levels"):
            _core.dumps(nested(DEPTH + 1, wrap), name)
    cycle = []
    cycle.append(cycle)
    with pytest.raises(EncodeError, match="containing itself"):
        _core.dumps(cycle, name)
    endless = Custom(None)
    endless.value = endless
    with pytest.raises(EncodeError, match="nested deeper"):
        _core.dumps(endless, name)


def test_reading_ends_at_the_limit():
    _core.loads(b"[" * DEPTH + b"]" * DEPTH, "json")
    with pytest.raises(DecodeError, match="nested deeper than 512 levels"):
        _core.loads(b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), "json")
    with pytest.raises(DecodeError, match="nested deeper than 512 levels"):
        _core.loads(b"[" * 1_000_000, "json")
    _core.loads(b"\x91" * DEPTH + b"\xc0", "msgpack")
    with pytest.raises(DecodeError, match="nested deeper than 512 levels"):
        _core.loads(b"\x91" * (DEPTH + 1) + b"\xc0", "msgpack")


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_what_an_objects_own_code_raises_is_the_cause(name):
    class Broken:
        def __json__(self):
            raise RuntimeError("boom")

    with pytest.raises(EncodeError, match=r"cannot encode value\[0\] with .*boom") as info:
        _core.dumps([Broken()], name)
    assert isinstance(info.value.__cause__, RuntimeError)

    class Interrupted:
        def __json__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _core.dumps([Interrupted()], name)


@pytest.mark.parametrize("name", ["json", "msgpack"])
@pytest.mark.parametrize(
    "change", [list.clear, lambda v: v.append(1), lambda v: v.__delitem__(slice(1, None))]
)
def test_a_list_that_changes_under_way_is_an_error(name, change):
    class Meddler:
        def __json__(self):
            change(victim)
            return 1

    victim = [Meddler(), [1, [2, "x" * 100]], {"a": 2}]
    with pytest.raises(EncodeError, match="changed its length"):
        _core.dumps([victim], name)


@pytest.mark.parametrize("name", ["json", "msgpack"])
@pytest.mark.parametrize("change", [dict.clear, lambda v: v.update(z=1), lambda v: v.pop("b")])
def test_a_dict_that_changes_under_way_is_an_error(name, change):
    class Meddler:
        def __json__(self):
            change(victim)
            return 1

    victim = {"a": Meddler(), "b": ["x" * 100], "c": {"y": [1, 2]}}
    with pytest.raises(EncodeError, match="changed its length"):
        _core.dumps([victim], name)


# typed values


@pytest.mark.parametrize("name", ["json", "msgpack"])
@given(value=trees(plain | typed, utf8))
@settings(max_examples=50)
def test_typed_values_survive(name, value):
    def readable(v):
        if isinstance(v, str):
            return not any("\ud800" <= c <= "\udfff" for c in v)
        if isinstance(v, list):
            return all(map(readable, v))
        if isinstance(v, dict):
            return all(map(readable, v)) and all(map(readable, v.values()))
        return True

    if name == "msgpack" and not readable(value):
        with pytest.raises(EncodeError, match="surrogate"):
            _core.dumps(value, name)
    else:
        assert same(_core.loads(_core.dumps(value, name), name), value)


def test_only_exactly_the_two_keys_make_a_typed_value():
    for value in (
        {"__type__": "date"},
        {"__value__": 1},
        {"__type__": "date", "__value__": "2020-01-02", "more": 1},
        {"__type__": "date", "value": 1},
    ):
        assert (
            _core.loads(json.dumps(value).encode(), "json")
            == value
            == kombu_json.loads(json.dumps(value))
        )
        assert _core.loads(msgpack.packb(value), "msgpack") == value
    spelled = rb'{"\u005f_type__": "date", "__value__": "2020-01-02", "__type__": "date"}'
    assert _core.loads(spelled, "json") == kombu_json.loads(spelled) == date(2020, 1, 2)


@pytest.mark.parametrize(
    "typed",
    [
        ("nothing", 1),
        (1, 2),
        (["a"], 1),
        ("date", "soon"),
        ("date", 5),
        ("datetime", None),
        ("time", "25:00"),
        ("decimal", "x"),
        ("uuid", {"hex": "1"}),
        ("uuid", {"wrong": "1"}),
        ("uuid", 5),
        ("bytes", 5),
        ("base64", "a"),
        ("base64", 5),
    ],
)
def test_a_typed_value_that_means_nothing_is_an_error(typed):
    value = {"a": {"__type__": typed[0], "__value__": typed[1]}}
    with pytest.raises(DecodeError):
        _core.loads(json.dumps(value).encode(), "json")
    with pytest.raises(DecodeError):
        _core.loads(msgpack.packb(value), "msgpack")


def test_what_older_kombu_wrote_is_read():
    assert _core.loads(b'{"__type__": "date", "__value__": "2020-01-02T00:00:00"}', "json") == date(
        2020, 1, 2
    )
    assert _core.loads(b'{"__type__": "base64", "__value__": "/w\\nA="}', "json") == b"\xff\x00"


# msgpack

msgpack_plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | utf8
    | st.binary()
    | st.integers(0, 70_000).map(lambda n: "x" * n)
    | st.sampled_from([b"x" * n for n in (255, 256, 65_535, 65_536)])
)


@given(trees(msgpack_plain, utf8))
def test_msgpack_is_written_as_msgpack_writes_it(value):
    packed = msgpack.packb(value, use_bin_type=True)
    assert _core.dumps(value, "msgpack") == packed
    assert same(_core.loads(packed, "msgpack"), msgpack.unpackb(packed, raw=False))


@pytest.mark.parametrize("length", [15, 16, 65_535, 65_536])
def test_msgpack_lengths(length):
    for value in ([None] * length, {str(i): i for i in range(length)}):
        packed = msgpack.packb(value)
        assert _core.dumps(value, "msgpack") == packed
        assert _core.loads(packed, "msgpack") == value


@pytest.mark.parametrize(
    "value",
    [
        0,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        2**32 - 1,
        2**32,
        2**63,
        2**64 - 1,
        -1,
        -32,
        -33,
        -128,
        -129,
        -(2**15),
        -(2**15) - 1,
        -(2**31),
        -(2**31) - 1,
        -(2**63),
    ],
)
def test_msgpack_numbers(value):
    assert _core.dumps(value, "msgpack") == msgpack.packb(value)
    assert _core.loads(msgpack.packb(value), "msgpack") == value


def test_msgpack_beyond_what_msgpack_has():
    for value in (2**64, -(2**63) - 1, 10**300):
        assert msgpack.unpackb(_core.dumps(value, "msgpack")) == {
            "__type__": "int",
            "__value__": str(value),
        }
        assert _core.loads(_core.dumps(value, "msgpack"), "msgpack") == value


def test_msgpack_other_things_that_are_read():
    keys = {1: 2, None: 3, b"b": 4, 1.5: 5, False: 6}
    assert _core.loads(msgpack.packb(keys), "msgpack") == keys
    assert _core.loads(msgpack.packb(1.5, use_single_float=True), "msgpack") == 1.5
    for moment in (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, microsecond=5, tzinfo=UTC),
        datetime(1960, 1, 1, tzinfo=UTC),
    ):
        assert _core.loads(msgpack.packb(moment, datetime=True), "msgpack") == moment
    assert _core.loads(b"\xd9\x03abc", "msgpack") == "abc"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\xa3ab",
        b"\x81\xa1a",
        b"\x81\x90\x01",
        b"\x01\x02",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc7\x01\x05x",
        b"\xdb\xff\xff\xff\xffx",
        b"\x81\xa1\xff\x01",
    ],
)
def test_msgpack_that_is_none(data):
    with pytest.raises(DecodeError, match="cannot decode msgpack at byte"):
        _core.loads(data, "msgpack")


def test_only_native_serializers():
    for call in (lambda: _core.dumps(1, "yaml"), lambda: _core.loads(b"1", "pickle")):
        with pytest.raises(ValueError, match="is not native, expected json or msgpack"):
            call()


def test_keys_are_not_confused():
    """The cache of keys is keyed by all of their bytes."""
    names = [chr(97 + i % 26) * (i // 26) for i in range(26 * 30)] + ["a\0", "a", "\0", "\0\0", ""]
    for name in names * 2:
        assert list(_core.loads(json.dumps({name: 1}).encode(), "json")) == [name]
        assert list(_core.loads(msgpack.packb({name: 1}), "msgpack")) == [name]
