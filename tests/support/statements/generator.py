"""Random SQL statements, honest and nasty, for trying the classifier against real servers.

The schema they speak of: tables ``item(id, name, n)`` and ``child(id, item_id, note)``, the view
``item_view``, the stored functions ``pure_f(int)``, ``writes_f(int)`` (inserts into ``audit``) and
``locks_f()``. Texts are as sent: without placeholders. No statement waits for long, stops a server
or changes its global settings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

COMMON_CALLS = """
ABS({e}) CEIL({e}) COALESCE({e}, {e}) CONCAT({s}, {s}) COUNT(*) SUM(n) MAX({e}) MIN(name) HEX({e})
IFNULL({e}, {e}) NULLIF({e}, {e}) LENGTH({s}) LOWER({s}) UPPER(name) MD5({s}) REPLACE({s}, 'a', 'b')
SUBSTRING({s} FROM 1 FOR 2) TRIM(LEADING 'x' FROM {s}) CAST({e} AS CHAR(10)) IF({e}, {e}, {e})
DATE_FORMAT(NOW(), '%Y-%m') NOW() CURDATE() RAND() UUID() ROUND({e}, 1) MOD({e}, 3) LEFT({s}, 1)
GREATEST({e}, {e}) JSON_OBJECT('a', {e}) JSON_EXTRACT('[1]', '$[0]') EXTRACT(YEAR FROM NOW())
GROUP_CONCAT(name ORDER BY id SEPARATOR ';') SLEEP(0) INSERT({s}, 1, 1, 'x') CHAR(65 USING utf8mb4)
CONVERT({s} USING utf8mb4) SUBSTRING({s} FROM 1 FOR {e}) (ROW({e},1)=ROW(1,{e})) CHARACTER(65)
CONVERT('2020-01-01',DATETIME(3)) TRIM(BOTH('x')FROM{s}) FIELD({e}, 1, 2) REGEXP_REPLACE({s}, 'a', 'b')
DATABASE()
"""
CALLS = {
    "mysql": ["ANY_VALUE({e})", "REGEXP_LIKE({s}, 'a')", "JSON_STORAGE_SIZE('[1]')"],
    "mariadb": ["JSON_COMPACT('[1]')", "NVL({e}, {e})", "CHR(65)", "JSON_QUERY('[[1]]', '$[0]')"],
}
NASTY_CALLS = [
    "writes_f({e})",
    "SUBSTRING('a' FROM 1 FOR writes_f({e}))",
    "writes_f ({e})",
    "`writes_f`({e})",
    "/*!50000 writes_f({e}) */",
    "locks_f()",
    "`locks_f`()",
    "pure_f({e})",
    "GET_LOCK('fuzz', 0)",
    "get_lock/**/('fuzz', 0)",
    "`GET_LOCK`('fuzz', 0)",
    "RELEASE_LOCK('fuzz')",
    "LAST_INSERT_ID()",
    "LAST_INSERT_ID({e})",
    "FOUND_ROWS()",
    "ROW_COUNT()",
    "CONNECTION_ID()",
    "@a",
    "@a := {e}",
    "(@a := n)",
    "@@session.sql_mode",
    "@@last_insert_id",
    "COUNT (*)",
    "CURRENT_USER",
    "USER()",
    "VERSION()",
]
TAILS = [
    " FOR UPDATE",
    " for\nupdate",
    " FOR UPDATE NOWAIT",
    " FOR UPDATE SKIP LOCKED",
    " LOCK IN SHARE MODE",
    " LOCK/**/IN/**/SHARE/**/MODE",
    " INTO @a",
    " LIMIT 1 INTO @a, @b",
    " PROCEDURE ANALYSE()",
    "; DELETE FROM item",
    " /*! FOR UPDATE */",
    " -- x\n FOR UPDATE",
    " --\u00a0 FOR UPDATE",
    " # x\n LOCK IN SHARE MODE",
]
WRITES = [
    "INSERT INTO item (id, name, n) VALUES ({i}, {s}, {i})",
    "INSERT IGNORE INTO item (id) VALUES ({i})",
    "REPLACE INTO item (id, n) VALUES ({i}, {i})",
    "UPDATE item SET n = {i} WHERE id = {i}",
    "DELETE FROM item WHERE id = {i}",
    "WITH a AS (SELECT 1 AS x) DELETE FROM item WHERE id IN (SELECT x FROM a)",
    "WITH a AS (SELECT 1 AS x) UPDATE item SET n = 2 WHERE id IN (SELECT x FROM a)",
    "INSERT INTO item (id) SELECT id + 100000 FROM child LIMIT 1",
    "/*!50000 INSERT INTO item (id) VALUES ({i}) */",
    "/* SELECT */ DELETE FROM item WHERE id = {i}",
    "DO writes_f({i})",
    "EXPLAIN UPDATE item SET n = {i}",
    "EXPLAIN ANALYZE DELETE FROM item WHERE id = {i}",
    "ANALYZE UPDATE item SET n = {i} WHERE id = {i}",
    "ANALYZE FORMAT=JSON DELETE FROM item WHERE id = {i}",
    "CREATE TEMPORARY TABLE IF NOT EXISTS fuzz_t (id INT)",
    "CREATE TABLE IF NOT EXISTS fuzz_p (id INT)",
    "TRUNCATE TABLE fuzz_p",
    "ALTER TABLE fuzz_p ADD COLUMN x INT",
    "HANDLER item OPEN",
    "HANDLER item CLOSE",
    "SET @a = {i}",
    "SET SESSION group_concat_max_len = 1024",
    "PREPARE fuzz FROM 'SELECT 1'",
]
SHOWS = [
    "SHOW TABLES",
    "SHOW INDEX FROM item",
    "SHOW CREATE TABLE item",
    "SHOW TABLES WHERE writes_f(1)",
    "SHOW WARNINGS",
    "DESCRIBE item",
    "EXPLAIN {q}",
    "EXPLAIN FORMAT=JSON {q}",
    "ANALYZE {q}",
    "TABLE item",
    "TABLE item FOR UPDATE",
    "VALUES ROW(1, 2)",
    "VALUES (1, 2)",
    "SELECT table_name FROM information_schema.tables LIMIT 1",
]
GAPS = [" ", "  ", "\n", "\t", " /* x */ ", "/**/", " -- '\n", ' # "\n', "/* ; */", " /*+ x */ "]
LITERALS = ["'a'", '"b"', "'it''s'", "N'x'", "_utf8mb4'y'", "X'41'", "''", "'FOR UPDATE'"]
TRICKS = [
    "'a\\', GET_LOCK('fuzz', 0), 'b'",
    '"a\\" , writes_f(1) , 1 AS "b"',
    "'a\\\\', writes_f(1), 'b'",
    "'-- ', writes_f(1)",
    "'/*', writes_f(1), '*/'",
    "`writes_f`(1)",
    "1 AS `writes_f`, 2 AS `b`",
    "1 /*!99999 , writes_f(1) */",
    "1 /*!50000 , writes_f(1) */",
    "1 /* , writes_f(1) */",
    "1e5, .5, 1., 0x1f, b'1'",
]


class _Maker:
    """The grammar, limited in depth."""

    def __init__(self, chance: random.Random, dialect: str) -> None:
        self.chance = chance
        self.calls = COMMON_CALLS.replace("\n", " ").strip()
        self.known = [call.strip() for call in _split(self.calls)] + CALLS[dialect]
        self.nastiness = 0.0

    def fill(self, text: str, depth: int) -> str:
        for hole, make in (("{e}", self.expression), ("{s}", self.string), ("{q}", self.query)):
            while hole in text:
                text = text.replace(hole, make(depth - 1), 1)
        while "{i}" in text:
            text = text.replace("{i}", str(self.chance.randrange(1, 50)), 1)
        return text

    def string(self, depth: int) -> str:
        return self.chance.choice(["name", *LITERALS])

    def expression(self, depth: int) -> str:
        if depth <= 0:
            return self.chance.choice(["1", "id", "n", "-1", "NULL", "2.5", "t.n"[2:]])
        if self.chance.random() < self.nastiness:
            return self.fill(self.chance.choice(NASTY_CALLS), depth)
        pick = self.chance.randrange(9)
        inner = self.expression
        if pick < 3:
            return self.fill(self.chance.choice(self.known), depth)
        if pick == 3:
            operator = self.chance.choice(["+", "-", "*", "=", "<=>", "AND", "OR", "<>", "|", "DIV"])
            return f"{inner(depth - 1)} {operator} {inner(depth - 1)}"
        if pick == 4:
            return f"(SELECT {inner(depth - 2)} FROM child LIMIT 1)"
        if pick == 5:
            return f"CASE WHEN {inner(depth - 1)} THEN {inner(depth - 1)} ELSE {inner(depth - 1)} END"
        if pick == 6:
            return f"{inner(depth - 1)} IN ({inner(depth - 1)}, {inner(depth - 1)})"
        if pick == 7:
            return f"EXISTS (SELECT {inner(depth - 2)} FROM child)"
        return f"({inner(depth - 1)})"

    def source(self, depth: int) -> str:
        pick = self.chance.randrange(6)
        if pick < 2 or depth <= 0:
            return self.chance.choice(["item", "item AS t", "`item`", "item_view"])
        if pick == 2:
            join = self.chance.choice(["JOIN", "LEFT JOIN", "CROSS JOIN", "STRAIGHT_JOIN"])
            return f"item {join} (SELECT item_id, note FROM child) AS c ON (c.item_id = item.id)"
        if pick == 3:
            return f"(SELECT id, name, n FROM item WHERE {self.expression(depth - 2)}) AS d"
        if pick == 4:
            return "item USE INDEX (PRIMARY)"
        return "item FORCE INDEX FOR JOIN (PRIMARY)"

    def select(self, depth: int) -> str:
        chance = self.chance
        columns = ", ".join(self.expression(depth) for _ in range(chance.randrange(1, 4)))
        if chance.random() < self.nastiness:
            columns += ", " + chance.choice(TRICKS)
        text = f"SELECT {chance.choice(['', '', 'DISTINCT ', 'SQL_NO_CACHE '])}{columns}"
        if chance.random() < self.nastiness / 4:
            text = text.replace("SELECT ", "SELECT SQL_CALC_FOUND_ROWS ", 1)
        text += f" FROM {self.source(depth)}"
        if chance.random() < 0.5:
            text += f" WHERE {self.expression(depth)}"
        if chance.random() < 0.2:
            text += f" GROUP BY {self.expression(depth - 2)}"
        if chance.random() < 0.3:
            text += f" ORDER BY {self.expression(depth - 2)}"
        if chance.random() < 0.3:
            text += chance.choice([" LIMIT 5", " LIMIT 5 OFFSET 1", " LIMIT 1, 2"])
        if chance.random() < self.nastiness:
            text += chance.choice(TAILS)
        return text

    def query(self, depth: int) -> str:
        pick = self.chance.randrange(8)
        if pick == 0:
            return f"({self.select(depth)})"
        if pick == 1:
            return f"SELECT 1 FROM item UNION ALL SELECT {self.expression(depth)} FROM item"
        if pick == 2:
            return f"WITH w (a) AS (SELECT {self.expression(depth)} FROM item) SELECT a FROM w"
        if pick == 3:
            return (
                "WITH RECURSIVE w AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM w WHERE a < 3)"
                f" SELECT a FROM w, (SELECT {self.expression(depth)} FROM item) AS x"
            )
        if pick == 4:
            return "SELECT SUM(n) OVER (PARTITION BY name ORDER BY id), RANK() OVER w FROM item" + (
                f" WHERE {self.expression(depth)} WINDOW w AS (ORDER BY n)"
            )
        return self.select(depth)

    def noise(self, text: str) -> str:
        chance = self.chance
        if chance.random() < 0.3 and "'" not in text and '"' not in text:
            parts = [part + chance.choice(GAPS) for part in text.split(" ") if part]
            text = "".join(parts)
        if chance.random() < 0.2:
            text = chance.choice(["/* x */ ", "-- x\n", "# x\n", "\n\t", "/**/"]) + text
        if chance.random() < 0.2:
            text += chance.choice([";", " ;", " -- x", " /* x */", " # x", "; -- x"])
        return text

    def statement(self) -> str:
        chance = self.chance
        self.nastiness = chance.choice([0.0, 0.0, 0.15, 0.4])
        pick: Callable[[int], str]
        if self.nastiness and chance.random() < 0.15:
            return self.noise(self.fill(chance.choice(WRITES), 2))
        if chance.random() < 0.08:
            return self.noise(self.fill(chance.choice(SHOWS), 2))
        pick = self.query
        return self.noise(pick(chance.randrange(1, 4)))


def _split(text: str) -> Iterator[str]:
    """The calls in `text`, split at the spaces outside parentheses."""
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            yield text[start : at + 1]
            start = at + 1


def statements(seed: int, dialect: str) -> Iterator[str]:
    """An endless series of statements, always the same for one `seed` and `dialect`."""
    if dialect not in CALLS:
        raise ValueError(f"dialect must be one of {sorted(CALLS)}, not {dialect!r}")
    maker = _Maker(random.Random(f"{dialect}:{seed}"), dialect)
    while True:
        yield maker.statement()
