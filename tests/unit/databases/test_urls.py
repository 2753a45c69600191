"""URLs of ours, and that nobody else's are touched."""

from __future__ import annotations

import pytest
from peewee import MySQLDatabase, SqliteDatabase
from playhouse import db_url
from playhouse.pool import PooledMySQLDatabase
from support.peewees import needs_peewee

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedDatabase


def addresses(url: str) -> list[str]:
    return [replica.address for replica in db_url.connect(url).replicas]


@pytest.mark.parametrize("scheme", ["mysql+replicas", "mysql+replicas+pool"])
def test_replicas_are_collected_in_order(scheme: str) -> None:
    url = f"{scheme}://u:p@primary:3307/app?replica=a:3308&charset=latin1&replica=b&replica=c:3309"
    made = db_url.connect(url)
    assert type(made) is (PooledReplicatedDatabase if scheme.endswith("pool") else ReplicatedDatabase)
    assert [replica.address for replica in made.replicas] == ["a:3308", "b:3307", "c:3309"]
    assert (made.database, made.connect_params["host"], made.connect_params["charset"]) == (
        "app",
        "primary",
        "latin1",
    )
    assert made.connect_params["password"] == "p"
    assert not {"replica", "replicas"} & set(made.connect_params)


def test_no_replicas_is_allowed() -> None:
    assert addresses("mysql+replicas://u@primary/app") == []


def test_a_replica_may_be_a_url_or_an_ipv6_address() -> None:
    nested = "mysql%3A%2F%2Fother%3Asecret%40r%3A3310"
    assert addresses(f"mysql+replicas://u@p/app?replica={nested}") == ["r:3310"]
    assert addresses("mysql+replicas://u@p/app?replica=[::1]:3310") == ["::1:3310"]


def test_our_arguments_pass_through_the_query() -> None:
    made = db_url.connect(
        "mysql+replicas://u@p/app?replica=r&reads=primary&fallback=error&pure_functions=f,g"
    )
    settings = made._parts.router.settings
    assert (settings.reads, settings.fallback, settings.pure_functions) == ("primary", "error", ("f", "g"))


@pytest.mark.parametrize(
    "query",
    [
        "replica=",
        "replica=r:x",
        "replica=:3306",
        "reads=nowhere",
        "replica=r&replica=r",
        "replicas=r",
        "replica=r&replicas=s",
        "replica=r1,r2",
        "replica=r1%2Cr2",
        "max_lag=x",
        "port=x",
        "polcy=random",
        "#x",
    ],
)
def test_what_cannot_work_is_refused(query: str) -> None:
    with pytest.raises(ConfigurationError):
        db_url.connect(f"mysql+replicas://u@p/app?{query}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("polcy=random", "polcy; did you mean 'policy'"),
        ("consistency=sesion", "consistency='sesion': allowed are .*did you mean 'session'"),
        ("policy=fastest", "policy='fastest': allowed are 'round-robin', 'random', 'least-busy'"),
        ("replicas=r", "replicas='r': a list is wanted.*replica=host"),
        ("replica=r&replicas=s", "in a URL .*replica=host"),
        ("replica=mysql://r?hots=x", "'hots' is no connection parameter; did you mean 'host'"),
        ("max_connections=5", "max_connections: only a pooled database takes it"),
    ],
)
def test_a_mistake_in_a_url_is_named(query: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        db_url.connect(f"mysql+replicas://u@p/app?{query}")


def test_two_replicas_in_one_parameter_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"replicas\[0\].*replica=a&replica=b"):
        db_url.connect("mysql+replicas://u@p/app?replica=r1,r2")


@pytest.mark.parametrize("password", ["hid/den", "hid#den", "1234#hidden", "12/hidden", "hid?den", "hid]den"])
def test_a_url_whose_password_is_not_quoted_is_refused_without_telling_it(password: str) -> None:
    wrong = f"mysql+replicas://app:{password}@p:3306/app"
    for url in (wrong, f"{wrong}?replica=r"):
        with pytest.raises(ValueError) as raised:  # noqa: PT011  # urllib's own, in one case
            db_url.connect(url)
        assert "den" not in str(raised.value)


def test_keyword_arguments_win_over_the_url() -> None:
    made = db_url.connect("mysql+replicas://u@p/app?replica=r", replicas=[{"host": "s"}], policy="random")
    assert [replica.address for replica in made.replicas] == ["s:3306"]


@needs_peewee("3.19", "unquote_user")
def test_unquoting_passes_through() -> None:
    made = db_url.connect("mysql+replicas://a%40b:p%2Fq@h/app", unquote_user=True, unquote_password=True)
    assert (made.connect_params["user"], made.connect_params["password"]) == ("a@b", "p/q")


def test_other_schemes_are_untouched() -> None:
    """Their last ``replica`` wins, as ever, and is theirs to make sense of."""
    parsed = db_url.parse("mysql://u:p@h/app?replica=a&replica=b&n=1")
    assert parsed == {"database": "app", "user": "u", "passwd": "p", "host": "h", "replica": "b", "n": 1}
    assert type(db_url.connect("mysql://h/app")) is MySQLDatabase
    assert type(db_url.connect("mysql+pool://h/app")) is PooledMySQLDatabase
    assert type(db_url.connect("sqlite:///:memory:")) is SqliteDatabase
