"""What DDL and GRANT can change, and a read that a replica refuses until the change has arrived there.

Found by going through the statements of DDL and GRANT of both servers, and through all that a SELECT or SHOW
can name or depend on: objects, the columns of a table, its keys, the types of its columns, and rights.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One change. ``{schema}`` and ``{user}`` stand for those of the case.

    Attributes:
        number: what the replica raises, by server; a server that is not there cannot do this.
        change: what is done on the primary while the replica applies nothing.
        read: refused by the replica, and served by the primary.
        before: what both have already.
        limited: it is read by a user who has few rights.
    """

    name: str
    number: dict[str, int]
    change: tuple[str, ...]
    read: str
    before: tuple[str, ...] = ()
    limited: bool = False


def both(number: int) -> dict[str, int]:
    return {"mariadb": number, "mysql": number}


T = (
    "CREATE TABLE t (id INT PRIMARY KEY, n INT, s VARCHAR(50) CHARACTER SET utf8mb4, KEY i_n (n))",
    "INSERT INTO t VALUES (1, 1, 'a b')",
)
U = ("CREATE TABLE u (id INT, n INT)",)
FUNCTION = "CREATE FUNCTION f() RETURNS INT DETERMINISTIC NO SQL RETURN 1"
ONE = "CREATE VIEW v AS SELECT 1 AS a"
USER = ("CREATE USER {user}@'%' IDENTIFIED BY 'secret'", "GRANT SELECT ON {schema}.z TO {user}@'%'")
LIMITED = ("CREATE TABLE z (a INT)", *USER)
BOSS = "CREATE USER {user}@'%' IDENTIFIED BY 'secret'"
ALL_TO_BOSS = "GRANT ALL ON {schema}.* TO {user}@'%'"
MIXED = (
    "CREATE TABLE t (s VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci)",
    "CREATE TABLE u (s VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci)",
)
UNMIXED = ("ALTER TABLE u MODIFY s VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",)
WGS = (
    'GEOGCS["x",DATUM["World Geodetic System 1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.017453292519943278],AXIS["Lat",NORTH],AXIS["Lon",EAST]]'
)


def typed(name: str, number: dict[str, int], before: str, after: str, read: str, *rows: str) -> Case:
    """The column `s` of a table `u` becomes another one, of another type and with NULL in all rows."""
    table = (f"CREATE TABLE u (n INT, s {before})", *(f"INSERT INTO u VALUES (1, {row})" for row in rows))
    return Case(name, number, ("ALTER TABLE u DROP s", f"ALTER TABLE u ADD s {after}"), read, table)


OBJECTS = [
    Case("table", both(1146), T, "SELECT n FROM t"),
    Case("view", both(1146), (ONE,), "SELECT a FROM v"),
    Case("renamed table", both(1146), ("RENAME TABLE t TO r",), "SELECT n FROM r", T),
    Case(
        "table a function reads",
        both(1146),
        U,
        "SELECT f()",
        (
            *U,
            "CREATE FUNCTION f() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM u)",
            "DROP TABLE u",
        ),
    ),
    Case(
        "schema",
        {"mariadb": 1146, "mysql": 1049},
        (
            "CREATE DATABASE {schema}_more",
            "CREATE TABLE {schema}_more.x (a INT)",
        ),
        "SELECT a FROM {schema}_more.x",
    ),
    Case("schema to show", both(1049), ("CREATE DATABASE {schema}_more",), "SHOW TABLES FROM {schema}_more"),
    Case("column", both(1054), ("ALTER TABLE t ADD c INT",), "SELECT c FROM t", T),
    Case("generated column", both(1054), ("ALTER TABLE t ADD c INT AS (n + 1)",), "SELECT c FROM t", T),
    Case(
        "invisible column", both(1054), ("ALTER TABLE t ADD c INT DEFAULT 1 INVISIBLE",), "SELECT c FROM t", T
    ),
    Case(
        "column to join by",
        both(1054),
        ("ALTER TABLE u ADD s VARCHAR(10)",),
        "SELECT t.id FROM t JOIN u USING (s)",
        (*T, *U),
    ),
    Case("function", both(1305), (FUNCTION,), "SELECT f()"),
    Case("procedure to show", both(1305), ("CREATE PROCEDURE p() SELECT 1",), "SHOW CREATE PROCEDURE p"),
    Case(
        "library to show",
        {"mysql": 1305},
        ("CREATE LIBRARY l LANGUAGE JAVASCRIPT AS $$ export function f() {{ return 1 }} $$",),
        "SHOW CREATE LIBRARY l",
    ),
    Case(
        "function named like a built-in",
        both(1630),
        ("CREATE FUNCTION `left`(a INT) RETURNS INT DETERMINISTIC NO SQL RETURN 1",),
        "SELECT {schema}.left(1)",
    ),
    Case(
        "index for USE INDEX",
        both(1176),
        ("ALTER TABLE t ADD KEY j (s)",),
        "SELECT n FROM t USE INDEX (j)",
        T,
    ),
    Case(
        "index for FORCE INDEX",
        both(1176),
        ("ALTER TABLE t ADD KEY j (s)",),
        "SELECT n FROM t FORCE INDEX (j)",
        T,
    ),
    Case(
        "FULLTEXT index",
        both(1191),
        ("ALTER TABLE t ADD FULLTEXT (s)",),
        "SELECT n FROM t WHERE MATCH (s) AGAINST ('a')",
        T,
    ),
    Case(
        "FULLTEXT index, boolean",
        both(1191),
        ("ALTER TABLE t ADD FULLTEXT (s)",),
        "SELECT n FROM t WHERE MATCH (s) AGAINST ('+a' IN BOOLEAN MODE)",
        T,
    ),
    Case(
        "engine with FULLTEXT",
        both(1214),
        ("ALTER TABLE m ENGINE = InnoDB, ADD FULLTEXT (s)",),
        "SELECT id FROM m WHERE MATCH (s) AGAINST ('a')",
        ("CREATE TABLE m (id INT, s VARCHAR(50)) ENGINE = MEMORY",),
    ),
    Case(
        "partitions",
        both(1747),
        ("ALTER TABLE t PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))",),
        "SELECT n FROM t PARTITION (p0)",
        T,
    ),
    Case(
        "one more partition",
        both(1735),
        ("ALTER TABLE p ADD PARTITION (PARTITION p1 VALUES LESS THAN (20))",),
        "SELECT id FROM p PARTITION (p1)",
        ("CREATE TABLE p (id INT) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))",),
    ),
    Case(
        "table below a MERGE table",
        both(1168),
        ("CREATE TABLE m2 (a INT) ENGINE = MyISAM",),
        "SELECT a FROM m",
        (
            "CREATE TABLE m1 (a INT) ENGINE = MyISAM",
            "CREATE TABLE m2 (a INT) ENGINE = MyISAM",
            "CREATE TABLE m (a INT) ENGINE = MERGE UNION = (m1, m2)",
            "DROP TABLE m2",
        ),
    ),
    Case(
        "table below a view",
        both(1356),
        U,
        "SELECT n FROM v",
        (*U, "CREATE VIEW v AS SELECT n FROM u", "DROP TABLE u"),
    ),
    Case(
        "function below a view",
        both(1356),
        (FUNCTION,),
        "SELECT a FROM v",
        (FUNCTION, "CREATE VIEW v AS SELECT f() AS a", "DROP FUNCTION f"),
    ),
    Case(
        "view in the place of one that recurs",
        both(1462),
        ("DROP VIEW w", "CREATE VIEW w AS SELECT 1 AS a"),
        "SELECT a FROM w",
        (
            "CREATE VIEW w AS SELECT 1 AS a",
            "CREATE VIEW v AS SELECT a FROM w",
            "DROP VIEW w",
            "RENAME TABLE v TO w",
        ),
    ),
    Case(
        "view in the place of a table",
        both(1347),
        ("DROP TABLE v", ONE),
        "SHOW CREATE VIEW v",
        ("CREATE TABLE v (a INT)",),
    ),
    Case(
        "trigger",
        both(1360),
        ("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1",),
        "SHOW CREATE TRIGGER g",
        T,
    ),
    Case(
        "event", both(1539), ("CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1",), "SHOW CREATE EVENT e"
    ),
    Case("account to show", {"mariadb": 1133, "mysql": 1396}, (BOSS,), "SHOW CREATE USER {user}@'%%'"),
    Case("grants to show", both(1141), (BOSS,), "SHOW GRANTS FOR {user}@'%%'"),
    Case(
        "role to show",
        {"mysql": 3530},
        ("CREATE ROLE {user}_role", "GRANT {user}_role TO {user}@'%'"),
        "SHOW GRANTS FOR {user}@'%%' USING {user}_role",
        (BOSS,),
    ),
    Case(
        "definer of a function",
        both(1449),
        (BOSS, ALL_TO_BOSS),
        "SELECT f()",
        ("CREATE DEFINER = {user}@'%' FUNCTION f() RETURNS INT DETERMINISTIC NO SQL RETURN 1",),
    ),
    Case(
        "spatial reference system",
        {"mysql": 3548},
        (f"CREATE SPATIAL REFERENCE SYSTEM 990001 NAME 'x' DEFINITION '{WGS}'",),
        "SELECT ST_AsText(ST_GeomFromText('POINT(0 0)', 990001))",
    ),
    Case(
        "sequence that a function reads",
        {"mariadb": 1146},
        ("CREATE SEQUENCE q",),
        "SELECT f()",
        (
            "CREATE SEQUENCE q",
            "CREATE FUNCTION f() RETURNS BIGINT READS SQL DATA RETURN LASTVAL(q)",
            "DROP SEQUENCE q",
        ),
    ),
    Case(
        "sequence in the place of a table",
        {"mariadb": 4089},
        ("DROP TABLE q", "CREATE SEQUENCE q"),
        "SHOW CREATE SEQUENCE q",
        ("CREATE TABLE q (a INT)",),
    ),
    Case(
        "system versioning",
        {"mariadb": 4124},
        ("ALTER TABLE t ADD SYSTEM VERSIONING",),
        "SELECT n FROM t FOR SYSTEM_TIME ALL",
        T,
    ),
]
COLUMNS = [
    Case(
        "ambiguous", both(1052), ("ALTER TABLE u DROP n",), "SELECT n FROM t JOIN u ON t.id = u.id", (*T, *U)
    ),
    Case(
        "twice",
        both(1060),
        ("ALTER TABLE u CHANGE n m INT, CHANGE id k INT",),
        "SELECT m FROM (SELECT * FROM t JOIN u) AS x",
        (*T, *U),
    ),
    Case(
        "union",
        both(1222),
        ("ALTER TABLE u ADD z INT",),
        "SELECT * FROM t UNION ALL SELECT * FROM u",
        (*T, *U),
    ),
    Case(
        "operand",
        both(1241),
        ("ALTER TABLE u DROP n",),
        "SELECT n FROM t WHERE id IN (SELECT * FROM u)",
        (*T, *U),
    ),
    Case(
        "common table expression",
        {"mariadb": 4002, "mysql": 1353},
        ("ALTER TABLE u ADD z INT",),
        "WITH c (a, b, d) AS (SELECT * FROM u) SELECT a FROM c",
        U,
    ),
    Case(
        "grouped",
        both(1056),
        ("ALTER TABLE t ADD late INT",),
        "SELECT COUNT(n) AS late FROM t GROUP BY late",
        T,
    ),
    Case(
        "summed",
        {"mariadb": 1247, "mysql": 1111},
        ("ALTER TABLE t ADD late INT",),
        "SELECT SUM(n) AS late FROM t ORDER BY SUM(late)",
        T,
    ),
    Case(
        "parameters of a function",
        both(1318),
        ("DROP FUNCTION f", "CREATE FUNCTION f(a INT, b INT) RETURNS INT DETERMINISTIC NO SQL RETURN 1"),
        "SELECT f(1, 2)",
        ("CREATE FUNCTION f(a INT) RETURNS INT DETERMINISTIC NO SQL RETURN 1",),
    ),
]
KEYED = ("CREATE TABLE k (id INT NOT NULL, n INT)",)
KEYS = [
    Case(
        "key to group by",
        {"mysql": 1055},
        ("ALTER TABLE k ADD PRIMARY KEY (id)",),
        "SELECT id, n FROM k GROUP BY id",
        KEYED,
    ),
    Case(
        "key that makes it one",
        {"mysql": 1140},
        ("ALTER TABLE k ADD PRIMARY KEY (id)",),
        "SELECT n, COUNT(*) FROM k WHERE id = 1",
        KEYED,
    ),
]
LATIN, WIDE = "VARCHAR(50) CHARACTER SET latin1", "VARCHAR(50) CHARACTER SET utf8mb4"
FACE = "\U0001f600"
POINT = "ST_GeomFromText('POINT(1 1)')"
POLYGON = "ST_GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))')"
FRAME = "SELECT SUM(n) OVER (ORDER BY s RANGE BETWEEN {} PRECEDING AND CURRENT ROW) FROM u"
TYPES = [
    typed("sum of a point", {"mariadb": 4079, "mysql": 1210}, "POINT", "INT", "SELECT SUM(s) FROM u", POINT),
    typed("point and number", {"mariadb": 4078, "mysql": 1210}, "POINT", "INT", "SELECT s + 1 FROM u", POINT),
    typed("coordinate", {"mariadb": 4079, "mysql": 3037}, "INT", "POINT", "SELECT ST_X(s) FROM u", "1"),
    typed("which geometry", {"mysql": 3516}, "POLYGON", "POINT", "SELECT ST_X(s) FROM u", POLYGON),
    typed(
        "which SRID",
        {"mysql": 3033},
        "POINT SRID 4326",
        "POINT SRID 0",
        f"SELECT ST_Distance(s, {POINT}) FROM u",
        "ST_GeomFromText('POINT(1 1)', 4326)",
    ),
    typed("geohash", {"mysql": 3064}, "INT", "TEXT", "SELECT ST_LatFromGeoHash(s) FROM u", "1"),
    typed("character set", both(1253), LATIN, WIDE, "SELECT s COLLATE utf8mb4_bin FROM u"),
    typed(
        "character set of a literal",
        {"mariadb": 1267, "mysql": 3854},
        LATIN,
        WIDE,
        f"SELECT n FROM u WHERE s = '{FACE}'",
    ),
    typed("no character set", {"mysql": 3995}, "VARBINARY(50)", WIDE, "SELECT s REGEXP 'a' FROM u"),
    Case("two collations", both(1267), UNMIXED, "SELECT t.s = u.s FROM t, u", MIXED),
    Case("three collations", both(1270), UNMIXED, "SELECT t.s BETWEEN u.s AND u.s FROM t, u", MIXED),
    Case(
        "many collations", both(1271), UNMIXED, "SELECT 1 FROM t, u WHERE t.s IN (u.s, t.s, u.s, 'a')", MIXED
    ),
    typed("date and text", {"mysql": 1525}, "DATE", "VARCHAR(50)", "SELECT n FROM u WHERE s = 'abc'"),
    typed("JSON of a number", {"mysql": 3146}, "INT", "JSON", "SELECT JSON_EXTRACT(s, '$.a') FROM u", "1"),
    typed("JSON of a text", {"mysql": 3141}, "TEXT", "JSON", "SELECT JSON_EXTRACT(s, '$.a') FROM u", "'abc'"),
    typed(
        "JSON of bytes",
        {"mysql": 3144},
        "VARBINARY(9)",
        "JSON",
        "SELECT JSON_EXTRACT(s, '$.a') FROM u",
        "'{{}}'",
    ),
    typed("UUID", {"mysql": 1411}, "INT", "VARCHAR(36)", "SELECT UUID_TO_BIN(s) FROM u", "1"),
    typed("bits", {"mysql": 3513}, "VARBINARY(3)", "INT", "SELECT BIT_AND(s) FROM u", "'ab'", "'a'"),
    typed(
        "many bits", {"mysql": 3514}, "VARBINARY(600)", "INT", "SELECT BIT_AND(s) FROM u", "REPEAT('1', 600)"
    ),
    typed("frame of text", {"mariadb": 4021, "mysql": 3587}, "VARCHAR(9)", "INT", FRAME.format("1")),
    typed("frame of dates", {"mariadb": 4021, "mysql": 3588}, "DATE", "INT", FRAME.format("1")),
    typed("frame of numbers", {"mysql": 3589}, "INT", "DATE", FRAME.format("INTERVAL 1 DAY")),
    Case(
        "default",
        both(1364),
        ("ALTER TABLE d MODIFY s INT NOT NULL DEFAULT 1",),
        "SELECT DEFAULT(s) FROM d",
        ("CREATE TABLE d (s INT NOT NULL)", "INSERT INTO d VALUES (1)"),
    ),
    Case(
        "width",
        both(1406),
        ("ALTER TABLE d MODIFY s VARCHAR(100)",),
        "WITH RECURSIVE c AS (SELECT s FROM d UNION ALL SELECT CONCAT(s, 'aaa') FROM c WHERE LENGTH(s) < 10) "
        "SELECT s FROM c",
        ("CREATE TABLE d (s VARCHAR(2))", "INSERT INTO d VALUES ('a')"),
    ),
    Case(
        "range",
        both(1690),
        ("ALTER TABLE d MODIFY s BIGINT",),
        "SELECT s - 5 FROM d",
        ("CREATE TABLE d (s BIGINT UNSIGNED)", "INSERT INTO d VALUES (1)"),
    ),
    Case(
        "expression of a view",
        both(1210),
        ("DROP VIEW v", "CREATE VIEW v AS SELECT s FROM d"),
        "SELECT 1 FROM v WHERE MATCH (s) AGAINST ('a')",
        ("CREATE TABLE d (s TEXT, FULLTEXT (s))", "CREATE VIEW v AS SELECT CONCAT(s, 'a') AS s FROM d"),
    ),
]
RIGHTS = [
    Case(
        "a table",
        both(1142),
        ("GRANT SELECT ON {schema}.t TO {user}@'%'",),
        "SELECT n FROM t",
        (*T, *LIMITED),
        True,
    ),
    Case(
        "a schema",
        both(1142),
        ("GRANT SELECT ON {schema}.* TO {user}@'%'",),
        "SELECT n FROM t",
        (*T, *LIMITED),
        True,
    ),
    Case(
        "a role",
        both(1142),
        (
            "CREATE ROLE {user}_role",
            "GRANT SELECT ON {schema}.t TO {user}_role",
            "GRANT {user}_role TO {user}@'%'",
            "SET DEFAULT ROLE {user}_role {for} {user}@'%'",
        ),
        "SELECT n FROM t",
        (*T, *LIMITED),
        True,
    ),
    Case(
        "a table and its right",
        both(1142),
        (*T, "GRANT SELECT ON {schema}.t TO {user}@'%'"),
        "SELECT n FROM t",
        LIMITED,
        True,
    ),
    Case(
        "a column",
        both(1143),
        ("GRANT SELECT (n) ON {schema}.t TO {user}@'%'",),
        "SELECT n FROM t",
        (*T, *LIMITED, "GRANT SELECT (id) ON {schema}.t TO {user}@'%'"),
        True,
    ),
    Case(
        "to call",
        both(1370),
        ("GRANT EXECUTE ON FUNCTION {schema}.f TO {user}@'%'",),
        "SELECT f()",
        (FUNCTION, *LIMITED),
        True,
    ),
    Case(
        "a function and its right",
        both(1370),
        (FUNCTION, "GRANT EXECUTE ON FUNCTION {schema}.f TO {user}@'%'"),
        "SELECT f()",
        LIMITED,
        True,
    ),
    Case(
        "to show",
        both(1044),
        ("GRANT SELECT ON {schema}_more.* TO {user}@'%'",),
        "SHOW TABLES FROM {schema}_more",
        (*LIMITED, "CREATE DATABASE {schema}_more"),
        True,
    ),
    Case(
        "of the server",
        both(1227),
        ("GRANT PROCESS ON *.* TO {user}@'%'",),
        "SHOW ENGINE INNODB STATUS",
        LIMITED,
        True,
    ),
    Case(
        "to explain a view",
        both(1345),
        ("GRANT SHOW VIEW ON {schema}.v TO {user}@'%'", "GRANT SELECT ON {schema}.t TO {user}@'%'"),
        "EXPLAIN SELECT id FROM v",
        (*T, "CREATE VIEW v AS SELECT id FROM t", *LIMITED, "GRANT SELECT ON {schema}.v TO {user}@'%'"),
        True,
    ),
    Case(
        "of a view's definer",
        both(1356),
        (ALL_TO_BOSS,),
        "SELECT n FROM v",
        (BOSS, *U, "CREATE DEFINER = {user}@'%' VIEW v AS SELECT n FROM u"),
    ),
    Case(
        "a view's definer",
        both(1045),
        ("CREATE USER {user}_boss@'%' IDENTIFIED BY 'secret'", "GRANT ALL ON {schema}.* TO {user}_boss@'%'"),
        "SELECT n FROM v",
        (
            *U,
            *LIMITED,
            "CREATE DEFINER = {user}_boss@'%' VIEW v AS SELECT n FROM u",
            "GRANT SELECT ON {schema}.v TO {user}@'%'",
        ),
        True,
    ),
    Case(
        "of a function's definer",
        {"mariadb": 1142, "mysql": 1370},
        (ALL_TO_BOSS,),
        "SELECT f()",
        (
            BOSS,
            *U,
            "CREATE DEFINER = {user}@'%' FUNCTION f() RETURNS INT READS SQL DATA "
            "RETURN (SELECT COUNT(*) FROM u)",
        ),
    ),
]
CASES = {
    f"{group}: {case.name}": case
    for group, cases in {
        "object": OBJECTS,
        "columns": COLUMNS,
        "key": KEYS,
        "type": TYPES,
        "right": RIGHTS,
    }.items()
    for case in cases
}
