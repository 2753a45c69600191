"""How bookmarks travel: cookies, headers, signatures, attributes; and what cannot work is refused."""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas import ConfigurationError, bookmarks
from peewee_replicas.ext.cookies import (
    SAFE_METHODS,
    Terms,
    cookie_values,
    labelled,
    until_of,
    until_text,
    with_vary,
)

OLD, NEW, OTHER = "an old secret of 16", b"a new secret of 16 bytes", "somebody else's secret"
GIVEN: dict[str, Any] = {
    "secret": NEW,
    "cookie": "mark",
    "header": None,
    "max_age": 3600,
    "secure": None,
    "same_site": "Lax",
    "domain": None,
    "path": "/",
    "readonly": False,
}


def terms(**changed: Any) -> Terms:
    return Terms(**{**GIVEN, **changed})


def sent(made: Terms, text: str, label: str = "", *, https: bool = False) -> str:
    """The value that goes out."""
    return made.seal(label, text, https)[0][1].partition(";")[0].partition("=")[2]


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("mark=a", ["a"]),
        ("a=b; mark=c; d=e", ["c"]),
        ("a=b;mark=c;d=e", ["c"]),
        ("mark=one; mark=two", ["one", "two"]),
        ('mark="quoted"', ["quoted"]),
        ("mark=a=b", ["a=b"]),
        ("mark=", [""]),
        ("mark", []),
        ("xmark=a; markx=b; Mark=c", []),
        (";;; =; mark=a;", ["a"]),
        ("", []),
    ],
)
def test_cookies_are_found_by_their_name(header: str, values: list[str]) -> None:
    assert cookie_values(header, "mark") == values


def test_what_went_out_comes_back() -> None:
    made = terms(header="X-Mark")
    (cookie, value), (header, same) = made.seal("", "text", False)
    assert (cookie, header) == ("Set-Cookie", "X-Mark")
    assert value == f"mark={same}; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"
    assert made.open("", f"a=b; mark={same}", "") == (["text"], [])
    assert made.open("", "", same) == (["text"], [])
    assert made.open("", f"mark={same}", sent(made, "other")) == (["text", "other"], [])


@pytest.mark.parametrize(
    "bad", ["", ".", "text", "text.", "text.short", "text." + "A" * 22, "é.ü", "x" * 100_000, "a.b.c", "\0"]
)
def test_what_is_not_signed_is_refused_and_no_error(bad: str) -> None:
    found = terms(header="X-Mark").open("", f"mark={bad}", bad)
    assert found.texts == []
    assert len(found.refused) == (2 if bad else 1)


def test_the_secrets_rotate_without_losing_anybody() -> None:
    before, between, after = terms(secret=OLD), terms(secret=[NEW, OLD]), terms(secret=[NEW])
    old, new = sent(before, "text"), sent(between, "text")
    assert new == sent(after, "text") != old
    taken = {"old": old, "new": new, "foreign": sent(terms(secret=OTHER), "text")}
    for made, expected in ((before, {"old"}), (between, {"old", "new"}), (after, {"new"})):
        assert {name for name, value in taken.items() if made.open("", f"mark={value}", "").texts} == expected


def test_databases_have_cookies_and_headers_of_their_own_and_cannot_be_swapped() -> None:
    made = terms(header="X-Mark")
    (_, cookie), (header, value) = made.seal("shop", "text", False)
    assert cookie.startswith(f"mark_shop={value}; ")
    assert header == "X-Mark-shop"
    assert made.open("shop", f"mark_shop={value}", "") == (["text"], [])
    assert made.open("shop", "", value) == (["text"], [])
    assert made.open("blog", f"mark_blog={value}", value).texts == []
    assert made.open("", f"mark={value}", "").texts == []


def test_only_a_few_cookies_of_one_name_are_looked_at() -> None:
    made = terms()
    value = sent(made, "text")
    assert len(made.open("", f"mark={value}; " * 1000, "").texts) == 4


@pytest.mark.parametrize(
    ("changed", "https", "attributes"),
    [
        ({}, False, "; Path=/; HttpOnly; SameSite=Lax"),
        ({}, True, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"secure": True}, False, "; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"secure": False}, True, "; Path=/; HttpOnly; SameSite=Lax"),
        ({"same_site": "Strict"}, False, "; Path=/; HttpOnly; SameSite=Strict"),
        ({"same_site": "None", "secure": True}, False, "; Path=/; Secure; HttpOnly; SameSite=None"),
        (
            {"domain": "example.org", "path": "/app"},
            False,
            "; Path=/app; Domain=example.org; HttpOnly; SameSite=Lax",
        ),
    ],
)
def test_attributes_of_the_cookie(changed: dict[str, Any], https: bool, attributes: str) -> None:
    ((_, cookie),) = terms(max_age=60.5, **changed).seal("", "text", https)
    assert cookie.partition("; Max-Age=60")[2] == attributes


def test_a_header_alone() -> None:
    made = terms(cookie=None, header="X-Mark")
    ((name, value),) = made.seal("", "text", False)
    assert name == "X-Mark"
    assert made.open("", f"mark={value}", "").texts == []
    assert made.vary("") == ["X-Mark"]
    assert terms(header="X-Mark").vary("shop") == ["Cookie", "X-Mark-shop"]
    assert terms().vary("") == ["Cookie"]


@pytest.mark.parametrize(
    ("given", "vary"),
    [
        ([], "Cookie, X-Mark"),
        (["Accept"], "Accept, Cookie, X-Mark"),
        (["Accept, Origin", "x-mark"], "Accept, Origin, x-mark, Cookie"),
        (["*"], "*"),
        (["cookie,X-Mark"], "cookie,X-Mark"),
    ],
)
def test_names_are_added_to_the_vary_header(given: list[str], vary: str) -> None:
    headers = [("A", "b"), *(("vary", value) for value in given)]
    found = with_vary(headers, ["Cookie", "X-Mark"])
    assert found[0] == ("A", "b")
    assert [value for name, value in found if name.lower() == "vary"] == [vary]


def test_the_moment_in_a_cookie_round_trips() -> None:
    assert until_of(until_text(1234567.891)) == 1234567.891
    for text in ("until-", "until--1", "until-1e3", "until-" + "9" * 16, "EaKE1cifNAZhcHAAARbkHtyp", ""):
        assert until_of(text) is None


def test_which_methods_are_read_only() -> None:
    assert terms().readonly == frozenset()
    assert terms(readonly=True).readonly == SAFE_METHODS == {"GET", "HEAD", "OPTIONS"}
    assert terms(readonly=["get", "REPORT"]).readonly == {"GET", "REPORT"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"secret": ()}, "secret"),
        ({"secret": "short"}, "secret: a key for bookmarks needs 16 bytes"),
        ({"secret": [NEW, "short"]}, "secret"),
        ({"secret": [None]}, "secret"),
        ({"secret": None}, "secret"),
        ({"secret": 100}, "secret: text or bytes are wanted, not a int"),
        ({"secret": [NEW, 100]}, "secret"),
        ({"cookie": 5}, "cookie=5"),
        ({"cookie": None}, "cookie=None, header=None"),
        ({"cookie": ""}, "cookie=''"),
        ({"cookie": "a b"}, "cookie='a b'"),
        ({"cookie": "a;b"}, "cookie"),
        ({"cookie": "a" * 33}, "cookie"),
        ({"header": "X Mark"}, "header='X Mark'"),
        ({"header": "X-Märk"}, "header"),
        ({"header": "X_Mark"}, "header='X_Mark': servers and proxies drop"),
        ({"max_age": 0}, "max_age=0"),
        ({"max_age": 24 * 3600 + 1}, "max_age=86401"),
        ({"max_age": float("nan")}, "max_age=nan"),
        ({"max_age": "60"}, "max_age='60'"),
        ({"max_age": True}, "max_age=True"),
        ({"secure": "yes"}, "secure='yes'"),
        ({"same_site": "lax"}, "same_site='lax'"),
        ({"same_site": "None", "secure": False}, "needs secure=True"),
        ({"path": "/;x"}, "path"),
        ({"path": ""}, "path"),
        ({"path": "shop"}, "path='shop'"),
        ({"domain": 5}, "domain=5"),
        ({"domain": "a\r\nSet-Cookie: x"}, "domain"),
        ({"readonly": "GET"}, "readonly='GET'"),
        ({"readonly": [1]}, "readonly"),
        ({"readonly": 1.5}, "readonly"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        terms(**changed)


def test_labels_of_databases_are_checked() -> None:
    assert labelled(1) == {"": 1}
    assert labelled({"a": 1, "b-2": 2}) == {"a": 1, "b-2": 2}
    for bad in ({}, {"": 1}, {"a b": 1}, {1: 1}, {"a" * 33: 1}):
        with pytest.raises(ConfigurationError, match="databases"):
            labelled(bad)


def test_no_two_databases_have_one_header() -> None:
    made = terms(header="X-Mark")
    assert made.header_of("my_shop") == "X-Mark-my-shop"  # one with _ would be dropped on its way
    made.check_labels(["my_shop", "shop", ""])
    terms().check_labels(["a", "A"])  # names of cookies are told apart
    for labels in (["my_shop", "my-shop"], ["shop", "Shop"]):
        with pytest.raises(
            ConfigurationError, match=f"'{labels[0]}' and '{labels[1]}' would have one header"
        ):
            made.check_labels(labels)


def test_the_longest_bookmark_fits_into_a_cookie() -> None:
    made = terms(cookie="c" * 32)
    longest = "A" * bookmarks.MAX_LENGTH
    value = sent(made, longest, "l" * 32)
    name = made.cookie_of("l" * 32)
    assert name is not None
    assert len(name) + 1 + len(value) <= 4096
    assert made.open("l" * 32, f"{name}={value}", "").texts == [longest]
