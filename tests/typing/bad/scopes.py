"""Mistakes with scopes and transactions."""

from peewee_replicas import ReplicatedDatabase, ReplicatedDatabaseProxy

db = ReplicatedDatabase("app")
proxy = ReplicatedDatabaseProxy()

db.readonly(consistency="sesion")  # refused: consistency
db.readonly(consistancy="session")  # refused: consistancy
db.readonly("session")  # refused: positional
db.readonly(max_lag="2")  # refused: max_lag
db.readonly(snapshot="yes")  # refused: snapshot
db.atomic(read_only="yes")  # refused: atomic
db.readonly(tags="report")  # refused: tags
db.readonly(tags={"rack": 1})  # refused: int
db.readonly(node=1)  # refused: node
db.on_replicas(rack=1)  # refused: rack
db.on_replicas("report")  # refused: argument
proxy.readonly(tags="report")  # refused: tags
proxy.on_replicas(rack=1)  # refused: rack
db.primary(consistency="session")  # refused: consistency
db.causal_session(5)  # refused: str
db.causal_session(bookmarks="x")  # refused: bookmarks
proxy.readonly(consistency="sesion")  # refused: consistency
proxy.readonly(consistancy="session")  # refused: consistancy
proxy.readonly(max_lag="2")  # refused: max_lag
proxy.causal_session(5)  # refused: str

with db.atomic() as transaction:
    transaction.rolback()  # refused: rolback


async def main() -> None:
    async with db.atomic():  # refused: __aenter__
        pass


@db.readonly()
def name_of(number: int) -> str:
    return str(number)


name_of("1")  # refused: name_of
