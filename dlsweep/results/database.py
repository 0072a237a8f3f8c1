"""Opens the database of a study: SQLite in its folder, or a server such as PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from dlsweep.errors import ConfigError, MissingExtraError, StudyError
from dlsweep.security.secrets import scrub

#: How the URL of a PostgreSQL server begins.
_PSYCOPG = "postgresql+psycopg"
#: The advisory lock under which the tables are created, in PostgreSQL.
_TABLES_LOCK = 0x646C7377
#: What libpq is told, unless the URL says otherwise: to give up on a server that is silent, in
#: seconds, and in milliseconds where the name does not say.
_PATIENCE = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class AwayError(StudyError):
    """A database server does not answer. The call may have been carried out, or not.

    Attributes:
        reason: What the last try ended with.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The study's database does not answer: {reason}.")
        self.reason = reason


def open_storage(url: str, keep_connection: bool = False) -> RDBStorage:
    """Opens a database, and creates its tables if there are none.

    Two processes may do this at the same moment. While the storage is open, each call to a server
    that does not answer raises :class:`AwayError`.

    Args:
        url: A storage URL of Optuna's.
        keep_connection: Whether to keep the connection to a server between two calls. The caller
            must dispose of it.

    Raises:
        MissingExtraError: If the driver package of PostgreSQL is not installed.
        StudyError: If it cannot be opened; says what the database has answered.
    """
    try:
        address = sqlalchemy.make_url(url)
        if address.get_backend_name() == "sqlite":
            return RDBStorage(url)
        options = _options(address)
        with_limit = _with_limit(address, options)
        kept = {"pool_pre_ping": True} if keep_connection else {"poolclass": sqlalchemy.NullPool}
        with _tables_locked(address, options):
            storage = RDBStorage(url, engine_kwargs={**with_limit, **kept})
    except MissingExtraError:
        raise
    except DBAPIError as error:
        raise StudyError(_unreachable(url, error)) from error
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, DBAPIError) else None
        said = f"The study's storage {scrub(url)} cannot be opened: {error}"
        raise StudyError(_unreachable(url, cause) if cause else said) from error
    sqlalchemy.event.listen(storage.engine, "handle_error", _raise_if_away)
    return storage


def check_package(url: str) -> None:
    """Checks that a sweep reaches PostgreSQL through psycopg.

    With any other package, such as psycopg2, a call to a silent server never returns: neither the
    trials nor Ctrl-C would be answered.

    Raises:
        ConfigError: If the URL names another package, or none: SQLAlchemy then takes psycopg2.
    """
    scheme = url.partition("://")[0]
    if scheme.startswith("postgres") and scheme != _PSYCOPG:
        raise ConfigError(
            f"hydra.sweeper.storage: Received {scheme}://…. Expected {_PSYCOPG}://…: only the "
            "package psycopg lets a sweep give up on a server that is silent.\n"
            f"Install it:  pip install 'dlsweep[postgres]'\nThen type  "
            f"hydra.sweeper.storage={_PSYCOPG}://…  with the same rest; the study is the same."
        )


def wait_for_creation(storage: BaseStorage, study: int) -> None:
    """Waits until no transaction creates a trial of a study.

    A server that was silent may still carry out a commit whose connection is closed.
    """
    if isinstance(storage, RDBStorage) and storage.engine.dialect.name == "postgresql":
        row = sqlalchemy.text("SELECT 1 FROM studies WHERE study_id = :study FOR UPDATE")
        with storage.engine.begin() as connection:
            connection.execute(row, {"study": study})


def first_line(error: BaseException) -> str:
    """Returns the first line of what a database has answered, without secrets."""
    return scrub(str(error).partition("\n")[0].strip())


def _options(address: URL) -> dict[str, Any]:
    """Returns the arguments of SQLAlchemy's engine for a server."""
    driver = address.get_driver_name()
    if driver == "psycopg" and find_spec("psycopg") is None:
        raise MissingExtraError("psycopg", "hydra.sweeper.storage")
    if not driver.startswith("psycopg"):
        return {}
    unsaid = {key: value for key, value in _PATIENCE.items() if key not in address.query}
    return {"connect_args": unsaid}


def _with_limit(address: URL, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an engine that also gives up on a server that is silent."""
    if address.get_driver_name() != "psycopg":
        return options
    from dlsweep.results.silence import connector  # only who has such a URL has psycopg

    return {"creator": connector(address, options["connect_args"])}


@contextlib.contextmanager
def _tables_locked(address: URL, options: dict[str, Any]) -> Iterator[None]:
    """Waits until no other process creates the tables: PostgreSQL would refuse one of the two."""
    if address.get_backend_name() != "postgresql":
        yield
        return
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, **options)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(_TABLES_LOCK)))
        yield


def _raise_if_away(context: ExceptionContext) -> None:
    """Raises AwayError where SQLAlchemy would raise an error about the connection.

    Optuna would try some calls again by itself, and so could store a trial twice.
    """
    error = context.sqlalchemy_exception
    is_away = context.is_disconnect
    if context.dialect.name == "postgresql":  # others report mistakes as such errors, too
        is_away = is_away or isinstance(error, OperationalError | InterfaceError)
    if is_away and not context.is_pre_ping:
        raise AwayError(first_line(context.original_exception))


def _unreachable(url: str, error: DBAPIError) -> str:
    said = " ".join(str(error.orig).split())
    name = sqlalchemy.make_url(url).database
    return (
        f"The study's database {scrub(url)} cannot be opened: {scrub(said)}\n"
        f"Expected a running server, a database in it (create it:  createdb {name}), and its "
        "password, if it has one, in PGPASSWORD or in a file that PGPASSFILE names."
    )
