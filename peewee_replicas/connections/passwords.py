"""Passwords that the program supplies each time a connection is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, cast

from peewee import OperationalError

from ..errors import PasswordUnavailable
from ..nodes.callables import takes_refused
from ..nodes.replica import Replica
from ..nodes.spec import PASSWORD_NAMES

C = TypeVar("C")

Password = str | bytes
Source = Callable[..., Password]
RunSource = Callable[[Callable[[], Password]], Password]
"""Runs the program's callable, possibly in another thread."""

_REFUSED = (1045, 1698)  # access denied, for a wrong password and for a missing one


def run_here(source: Callable[[], Password]) -> Password:
    """Run the program's callable in this thread."""
    return source()


def with_password(
    parameters: Mapping[str, object],
    node: Replica,
    connect: Callable[[Mapping[str, object]], C],
    run: RunSource = run_here,
) -> C:
    """Connect, with the password asked for if the program gave a callable.

    A program may cache passwords, so one that the server refuses is asked for once more. The same one is not
    sent twice, because servers count failed attempts.

    Parameters:
        parameters: the driver's arguments.
        node: the node, for the callable.
        connect: connects with the arguments that it is given.
        run: runs the callable.

    Raises:
        PasswordUnavailable: the callable failed.
    """
    name = next((each for each in PASSWORD_NAMES if callable(parameters.get(each))), None)
    if name is None:
        return connect(parameters)
    source = cast(Source, parameters[name])
    password = _asked(source, node, run, refused=False)
    try:
        return connect({**parameters, name: password})
    except Exception as exc:
        if not exc.args or exc.args[0] not in _REFUSED:
            raise
        before, password = password, _asked(source, node, run, refused=True)
        if password == before:
            raise
    return connect({**parameters, name: password})


@contextmanager
def password_errors() -> Iterator[None]:
    """Return a context manager that raises a `PasswordUnavailable` again that peewee has wrapped."""
    try:
        yield
    except OperationalError as exc:
        original = getattr(exc, "orig", None)
        if isinstance(original, PasswordUnavailable):
            raise original from original.__cause__
        raise


def _asked(source: Source, node: Replica, run: RunSource, *, refused: bool) -> Password:
    words = "the callable that was given as password"
    try:
        password = run(lambda: source(node, refused=refused) if takes_refused(source) else source(node))
    except Exception as exc:
        # Not its message, which may quote a secret; the cause has it.
        raise PasswordUnavailable(f"{words} raised {type(exc).__name__}") from exc
    if not isinstance(password, (str, bytes)):
        raise PasswordUnavailable(f"{words} returned a {type(password).__name__}, and text is wanted")
    return password
