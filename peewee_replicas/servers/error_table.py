"""The meaning of every error number that matters for routing. Data only.

The table was made from the error catalogues of MariaDB 10.11 and MySQL 9.7; a test compares them again. An
error whose number is not in it is the statement's own: it is raised, and no node is to blame. What the
library does for each meaning is in `connections.failures`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Meaning = Literal[
    "unreachable",
    "exhausted",
    "not sent",
    "lost",
    "killed",
    "busy",
    "leaving",
    "not ready",
    "misconfigured",
    "refused",
    "missing",
    "unreadable",
    "statement",
]
Server = Literal["mariadb", "mysql"]


class Row(NamedTuple):
    """One error.

    Attributes:
        number: the number that the server or the driver reports.
        name: the name in the servers' catalogues, without its prefix.
        says: what the error means for the node or the statement, in a few words.
        server: the only server on which the number has this meaning; None for both.
    """

    number: int
    name: str
    says: str
    server: Server | None = None


# What a replica may lack, or have in an older form, because it lags. First whole objects.
_OBJECTS = (
    Row(1049, "BAD_DB_ERROR", "a schema"),
    Row(1054, "BAD_FIELD_ERROR", "a column"),
    Row(1133, "PASSWORD_NO_MATCH", "an account, for SHOW CREATE USER"),
    Row(1141, "NONEXISTING_GRANT", "an account or a role, for SHOW GRANTS"),
    Row(1146, "NO_SUCH_TABLE", "a table or view"),
    Row(1168, "WRONG_MRG_TABLE", "a table below a MERGE table"),
    Row(1176, "KEY_DOES_NOT_EXITS", "an index named in USE INDEX or FORCE INDEX"),
    Row(1191, "FT_MATCHING_KEY_NOT_FOUND", "a FULLTEXT index"),
    Row(1214, "TABLE_CANT_HANDLE_FT", "another engine, or another definition of a view, with FULLTEXT"),
    Row(1305, "SP_DOES_NOT_EXIST", "a function, procedure or library"),
    Row(1347, "WRONG_OBJECT", "a view in the place of a table, or the reverse"),
    Row(1356, "VIEW_INVALID", "what a view reads, or its definer's rights"),
    Row(1360, "TRG_DOES_NOT_EXIST", "a trigger"),
    Row(1396, "CANNOT_USER", "an account, for SHOW CREATE USER", "mysql"),
    Row(1449, "NO_SUCH_USER", "the account of a definer"),
    Row(1462, "VIEW_RECURSIVE", "another definition of a view"),
    Row(1477, "FOREIGN_SERVER_DOESNT_EXIST", "a server made with CREATE SERVER"),
    Row(1539, "EVENT_DOES_NOT_EXIST", "an event"),
    Row(1630, "FUNC_INEXISTENT_NAME_COLLISION", "a function named like a built-in"),
    Row(1735, "UNKNOWN_PARTITION", "a partition"),
    Row(1747, "PARTITION_CLAUSE_ON_NONPARTITIONED", "a table's partitions"),
    Row(3530, "ROLE_NOT_GRANTED", "a role's grant", "mysql"),
    Row(3548, "SRS_NOT_FOUND", "a spatial reference system", "mysql"),
    Row(4089, "NOT_SEQUENCE", "a sequence in the place of a table", "mariadb"),
    Row(4124, "VERS_NOT_VERSIONED", "a table's system versioning", "mariadb"),
)
# The columns of a table, or the parameters of a function.
_COLUMNS = (
    Row(1052, "NON_UNIQ_ERROR", "a column's removal: its name is ambiguous"),
    Row(1056, "WRONG_GROUP_FIELD", "a column in GROUP BY with the name of an alias"),
    Row(1060, "DUP_FIELDNAME", "a column that was renamed"),
    Row(1111, "INVALID_GROUP_FUNC_USE", "a column with the name of an alias"),
    Row(1222, "WRONG_NUMBER_OF_COLUMNS_IN_SELECT", "the number of columns of SELECT *"),
    Row(1241, "OPERAND_COLUMNS", "the number of columns of SELECT *"),
    Row(1247, "ILLEGAL_REFERENCE", "a column with the name of an alias"),
    Row(1318, "SP_WRONG_NO_OF_ARGS", "the number of a function's parameters"),
    Row(1353, "VIEW_WRONG_LIST", "the number of columns of SELECT *", "mysql"),
    Row(4002, "WITH_COL_WRONG_LIST", "the number of columns of SELECT *", "mariadb"),
)
# A key that GROUP BY depends on.
_KEYS = (
    Row(1055, "WRONG_FIELD_WITH_GROUP", "the key that GROUP BY depends on"),
    Row(1140, "MIX_OF_GROUP_FUNC_AND_FIELDS", "the key that makes a column single"),
)
# A column's type, width, default, character set or collation.
_TYPES = (
    Row(1210, "WRONG_ARGUMENTS", "a column's type"),
    Row(1253, "COLLATION_CHARSET_MISMATCH", "a column's character set"),
    Row(1267, "CANT_AGGREGATE_2COLLATIONS", "a column's collation or character set"),
    Row(1270, "CANT_AGGREGATE_3COLLATIONS", "a column's collation"),
    Row(1271, "CANT_AGGREGATE_NCOLLATIONS", "a column's collation"),
    Row(1364, "NO_DEFAULT_FOR_FIELD", "a column's default, for DEFAULT(column)"),
    Row(1406, "DATA_TOO_LONG", "a column's width, in a recursive WITH"),
    Row(1411, "WRONG_VALUE_FOR_TYPE", "a column's type", "mysql"),
    Row(1525, "WRONG_VALUE", "a column's type: DATE compared with a text"),
    Row(1690, "DATA_OUT_OF_RANGE", "a column's type: the range of its arithmetic"),
    Row(3033, "GIS_DIFFERENT_SRIDS", "a column's SRID", "mysql"),
    Row(3037, "GIS_INVALID_DATA", "a column's type", "mysql"),
    Row(3064, "INCORRECT_TYPE", "a column's type", "mysql"),
    Row(3141, "INVALID_JSON_TEXT_IN_PARAM", "a column's type: JSON", "mysql"),
    Row(3144, "INVALID_JSON_CHARSET", "a column's type: JSON", "mysql"),
    Row(3146, "INVALID_TYPE_FOR_JSON", "a column's type: JSON", "mysql"),
    Row(3513, "INVALID_BITWISE_OPERANDS_SIZE", "a column's type or width", "mysql"),
    Row(3514, "INVALID_BITWISE_AGGREGATE_OPERANDS_SIZE", "a column's type or width", "mysql"),
    Row(3516, "UNEXPECTED_GEOMETRY_TYPE", "a column's type: which geometry", "mysql"),
    Row(3587, "WINDOW_RANGE_FRAME_ORDER_TYPE", "a column's type, in a window", "mysql"),
    Row(3588, "WINDOW_RANGE_FRAME_TEMPORAL_TYPE", "a column's type, in a window", "mysql"),
    Row(3589, "WINDOW_RANGE_FRAME_NUMERIC_TYPE", "a column's type, in a window", "mysql"),
    Row(3854, "CANNOT_CONVERT_STRING", "a column's character set", "mysql"),
    Row(3995, "CHARACTER_SET_MISMATCH", "a column's character set", "mysql"),
    Row(4021, "WRONG_TYPE_FOR_RANGE_FRAME", "a column's type, in a window", "mariadb"),
    Row(4078, "ILLEGAL_PARAMETER_DATA_TYPES2_FOR_OPERATION", "a column's type", "mariadb"),
    Row(4079, "ILLEGAL_PARAMETER_DATA_TYPE_FOR_OPERATION", "a column's type", "mariadb"),
)
# Privileges, which are replicated too.
_RIGHTS = (
    Row(1044, "DBACCESS_DENIED_ERROR", "a right on a schema"),
    Row(1045, "ACCESS_DENIED_ERROR", "the account of a view's definer"),
    Row(1142, "TABLEACCESS_DENIED_ERROR", "a right on a table, of the user or a role"),
    Row(1143, "COLUMNACCESS_DENIED_ERROR", "a right on a column"),
    Row(1227, "SPECIFIC_ACCESS_DENIED_ERROR", "a right on the whole server"),
    Row(1345, "VIEW_NO_EXPLAIN", "a right on what a view reads, for EXPLAIN"),
    Row(1370, "PROCACCESS_DENIED_ERROR", "the right to call a function"),
)
# The server's messages for these name only objects and columns. A message about a type may show a value.
NAME_ONLY_OBJECTS = frozenset(row.number for row in (*_OBJECTS, *_COLUMNS, *_KEYS, *_RIGHTS))

# The numbers from 2000 to 2999 are the client's own.
TABLE: dict[Meaning, tuple[Row, ...]] = {
    "unreachable": (
        Row(2002, "CONNECTION_ERROR", "nothing listens on the socket"),
        Row(2003, "CONN_HOST_ERROR", "nothing answers there"),
        Row(2005, "UNKNOWN_HOST", "its name cannot be resolved"),
    ),
    # Recognised by the system's error that caused a 2003, see `error_meanings`.
    "exhausted": (),
    "not sent": (
        Row(2006, "SERVER_GONE_ERROR", "the connection was closed before the statement was sent"),
        Row(2014, "COMMANDS_OUT_OF_SYNC", "the connection is in the middle of something else"),
        Row(2027, "MALFORMED_PACKET", "the connection is out of step"),
        Row(2055, "SERVER_LOST_EXTENDED", "the connection was lost"),
    ),
    "lost": (
        Row(2013, "SERVER_LOST", "the connection was lost before the answer came"),
        Row(1156, "NET_PACKETS_OUT_OF_ORDER", "the server could not read what was sent"),
        Row(1157, "NET_UNCOMPRESS_ERROR", "the server could not read what was sent"),
        Row(1158, "NET_READ_ERROR", "the server could not read what was sent"),
        Row(1159, "NET_READ_INTERRUPTED", "the server waited too long for the rest of a statement"),
        Row(1160, "NET_ERROR_ON_WRITE", "the server could not send its answer"),
        Row(1161, "NET_WRITE_INTERRUPTED", "the server waited too long for its answer to be taken"),
    ),
    "killed": (
        Row(1927, "CONNECTION_KILLED", "somebody ended the connection", "mariadb"),
        Row(3169, "SESSION_WAS_KILLED", "somebody ended the connection", "mysql"),
        Row(4031, "CLIENT_INTERACTION_TIMEOUT", "the connection was idle for too long", "mysql"),
    ),
    "busy": (
        Row(1040, "CON_COUNT_ERROR", "the server has reached max_connections"),
        Row(1135, "CANT_CREATE_THREAD", "the server cannot start a thread for the connection"),
        Row(1203, "TOO_MANY_USER_CONNECTIONS", "the user has reached max_user_connections"),
        Row(1226, "USER_LIMIT_REACHED", "the user has reached an hourly limit"),
        Row(6141, "GRP_RPL_CONNECTION_HANDOFF_BUSY", "too many connections are handed over", "mysql"),
    ),
    "leaving": (
        Row(1053, "SERVER_SHUTDOWN", "the server is shutting down"),
        Row(1077, "NORMAL_SHUTDOWN", "the server is shutting down"),
        Row(1079, "SHUTDOWN_COMPLETE", "the server has shut down"),
        Row(3032, "SERVER_OFFLINE_MODE", "the server is in offline mode"),
        Row(3168, "SERVER_ISNT_AVAILABLE", "the server does not serve clients", "mysql"),
        Row(6400, "SERVER_OFFLINE_MODE_REASON", "the server is in offline mode", "mysql"),
        Row(6401, "SERVER_OFFLINE_MODE_USER", "the server is in offline mode", "mysql"),
    ),
    "not ready": (
        # "Unknown command" has the same number and SQLSTATE, but is never the answer to a statement.
        Row(1047, "UNKNOWN_COM_ERROR", "Galera: the node has not joined its cluster"),
        Row(3781, "GR_HOLD_WAIT_TIMEOUT", "a new primary is still applying what it has", "mysql"),
        Row(3782, "GR_HOLD_KILLED", "a new primary stopped applying what it has", "mysql"),
        Row(3783, "GR_HOLD_MEMBER_STATUS_ERROR", "the member of the group is in error", "mysql"),
        Row(3796, "GRP_TRX_CONSISTENCY_NOT_ALLOWED", "the member of the group is not online", "mysql"),
        Row(3797, "GRP_TRX_CONSISTENCY_BEFORE", "the member of the group is too far behind", "mysql"),
        Row(3798, "GRP_TRX_CONSISTENCY_AFTER_ON_TRX_BEGIN", "the group is too far behind", "mysql"),
        Row(3799, "GRP_TRX_CONSISTENCY_BEGIN_NOT_ALLOWED", "the member leaves its group", "mysql"),
    ),
    "misconfigured": (
        Row(1129, "HOST_IS_BLOCKED", "the server blocks this host after failed connects"),
        Row(1130, "HOST_NOT_PRIVILEGED", "no account may connect from this host"),
        # MariaDB lets the user in, but refuses every statement except the one that sets a new password.
        Row(1820, "MUST_CHANGE_PASSWORD", "the password has expired"),
        Row(2012, "SERVER_HANDSHAKE_ERR", "the handshake failed"),
        Row(2026, "SSL_CONNECTION_ERROR", "TLS failed"),
    ),
    "refused": (
        Row(1290, "OPTION_PREVENTS_STATEMENT", "an option of the server forbids it: read_only for one"),
        Row(1792, "CANT_EXECUTE_IN_READ_ONLY_TRANSACTION", "a write on a connection for reading"),
        Row(1836, "READ_ONLY_MODE", "a write on a server that is read-only"),
        Row(1874, "INNODB_READ_ONLY", "a write on a server whose storage is read-only"),
    ),
    "missing": (*_OBJECTS, *_COLUMNS, *_KEYS, *_TYPES, *_RIGHTS),
    "unreadable": (
        # Errors of the operating system and the storage engines, passed on by the server
        Row(1, "EE_CANTCREATEFILE", "a temporary file cannot be made"),
        Row(2, "EE_READ", "a file cannot be read"),
        Row(3, "EE_WRITE", "a temporary file cannot be written"),
        Row(4, "EE_BADCLOSE", "a file cannot be closed"),
        Row(5, "EE_OUTOFMEMORY", "out of memory"),
        Row(9, "EE_EOFERR", "a file is too short"),
        Row(10, "EE_CANTLOCK", "a file cannot be locked"),
        Row(12, "EE_DIR", "a directory cannot be read"),
        Row(13, "EE_STAT", "a file's status cannot be read"),
        Row(14, "EE_CANT_CHSIZE", "a file cannot grow"),
        Row(15, "EE_CANT_OPEN_STREAM", "a file cannot be opened"),
        Row(20, "EE_DISK_FULL", "the disk is full"),
        Row(23, "EE_OUT_OF_FILERESOURCES", "too many open files"),
        Row(27, "EE_SYNC", "a file cannot be synced"),
        Row(29, "EE_FILENOTFOUND", "a table's file is gone"),
        Row(33, "EE_CANT_SEEK", "a file cannot be read"),
        Row(34, "EE_CAPACITY_EXCEEDED", "out of memory"),
        Row(126, "HA_ERR_CRASHED", "an index is corrupt"),
        Row(127, "HA_ERR_WRONG_IN_RECORD", "a table's rows are corrupt"),
        Row(128, "HA_ERR_OUT_OF_MEM", "out of memory"),
        Row(130, "HA_ERR_NOT_A_TABLE", "a table's file is corrupt"),
        Row(132, "HA_ERR_OLD_FILE", "a table's file is of an old format"),
        Row(144, "HA_ERR_CRASHED_ON_REPAIR", "a table has crashed"),
        Row(145, "HA_ERR_CRASHED_ON_USAGE", "a table has crashed"),
        Row(175, "HA_ERR_FILE_TOO_SHORT", "a table's file is too short"),
        Row(176, "HA_ERR_WRONG_CRC", "a table's file is corrupt"),
        # The same problems under the server's own numbers
        Row(1004, "CANT_CREATE_FILE", "a temporary file cannot be made"),
        Row(1012, "CANT_FIND_SYSTEM_REC", "a system table cannot be read"),
        Row(1013, "CANT_GET_STAT", "a file's status cannot be read"),
        Row(1015, "CANT_LOCK", "a file cannot be locked"),
        Row(1016, "CANT_OPEN_FILE", "a file cannot be opened"),
        Row(1017, "FILE_NOT_FOUND", "a table's file is gone"),
        Row(1018, "CANT_READ_DIR", "a directory cannot be read"),
        Row(1021, "DISK_FULL", "the disk is full"),
        Row(1023, "ERROR_ON_CLOSE", "a file cannot be closed"),
        Row(1024, "ERROR_ON_READ", "a file cannot be read"),
        Row(1026, "ERROR_ON_WRITE", "a temporary file cannot be written"),
        Row(1030, "GET_ERRNO", "the storage engine has failed"),
        Row(1033, "NOT_FORM_FILE", "a table's or view's file is corrupt"),
        Row(1034, "NOT_KEYFILE", "an index is corrupt"),
        Row(1035, "OLD_KEYFILE", "a table's file is of an old format"),
        Row(1037, "OUTOFMEMORY", "out of memory"),
        Row(1038, "OUT_OF_SORTMEMORY", "out of memory for sorting"),
        Row(1039, "UNEXPECTED_EOF", "a file is too short"),
        Row(1041, "OUT_OF_RESOURCES", "out of memory"),
        Row(1114, "RECORD_FILE_FULL", "a temporary table is full"),
        Row(1194, "CRASHED_ON_USAGE", "a table has crashed"),
        Row(1195, "CRASHED_ON_REPAIR", "a table has crashed"),
        Row(1257, "ZLIB_Z_MEM_ERROR", "out of memory"),
        Row(1286, "UNKNOWN_STORAGE_ENGINE", "a storage engine is not there"),
        Row(1296, "GET_ERRMSG", "the storage engine has failed"),
        Row(1297, "GET_TEMPORARY_ERRMSG", "the storage engine has failed for now"),
        Row(1340, "FPARSER_TOO_BIG_FILE", "a view's file is corrupt"),
        Row(1341, "FPARSER_BAD_HEADER", "a view's file is corrupt"),
        Row(1342, "FPARSER_EOF_IN_COMMENT", "a view's file is corrupt"),
        Row(1343, "FPARSER_ERROR_IN_PARAMETER", "a view's file is corrupt"),
        Row(1344, "FPARSER_EOF_IN_UNKNOWN_PARAMETER", "a view's file is corrupt"),
        Row(1429, "CONNECT_TO_FOREIGN_DATA_SOURCE", "a table of another server is out of reach"),
        Row(1430, "QUERY_ON_FOREIGN_DATA_SOURCE", "a table of another server has failed"),
        Row(1431, "FOREIGN_DATA_SOURCE_DOESNT_EXIST", "a table of another server is not there"),
        Row(1455, "OLD_FILE_FORMAT", "a table's file is of an old format"),
        Row(1457, "SP_PROC_TABLE_CORRUPT", "a function cannot be loaded"),
        Row(1459, "TABLE_NEEDS_UPGRADE", "a table's file is of an old format"),
        Row(1524, "PLUGIN_IS_NOT_LOADED", "a plugin is not there"),
        Row(1558, "COL_COUNT_DOESNT_MATCH_PLEASE_UPDATE", "a system table needs an upgrade"),
        Row(1696, "FAILED_READ_FROM_PAR_FILE", "a table's file is corrupt"),
        Row(1707, "TABLE_NEEDS_REBUILD", "a table's file is of an old format"),
        Row(1712, "INDEX_CORRUPT", "an index is corrupt"),
        Row(1728, "CANNOT_LOAD_FROM_TABLE_V2", "a system table is corrupt"),
        Row(1805, "COL_COUNT_DOESNT_MATCH_CORRUPTED_V2", "a system table is corrupt"),
        Row(1810, "IO_READ_ERROR", "a file cannot be read"),
        Row(1811, "IO_WRITE_ERROR", "a file cannot be written"),
        Row(1812, "TABLESPACE_MISSING", "a table's file is gone"),
        Row(1814, "TABLESPACE_DISCARDED", "a table's file was discarded"),
        Row(1815, "INTERNAL_ERROR", "the storage engine has failed"),
        Row(1817, "INNODB_INDEX_CORRUPT", "an index is corrupt"),
        Row(1877, "TABLE_CORRUPT", "a table is corrupt"),
        Row(1878, "TEMP_FILE_WRITE_FAILURE", "a temporary file cannot be written"),
        Row(1932, "NO_SUCH_TABLE_IN_ENGINE", "a table's file is gone", "mariadb"),
        Row(1939, "SQL_DISCOVER_ERROR", "a table's definition cannot be read", "mariadb"),
        Row(3000, "FILE_CORRUPT", "a file is corrupt"),
        Row(3003, "STORAGE_ENGINE_NOT_LOADED", "a storage engine is not there"),
        Row(3009, "COL_COUNT_DOESNT_MATCH_PLEASE_UPDATE_V2", "a system table needs an upgrade"),
        Row(3015, "ENGINE_OUT_OF_MEMORY", "out of memory"),
        Row(3019, "INNODB_UNDO_LOG_FULL", "the storage engine has failed"),
        Row(3044, "STD_BAD_ALLOC_ERROR", "out of memory"),
        Row(3142, "INVALID_JSON_BINARY_DATA", "a stored JSON value is corrupt", "mysql"),
        Row(3185, "CANNOT_FIND_KEY_IN_KEYRING", "the key of an encrypted table is not there", "mysql"),
        Row(3510, "TABLESPACE_MISSING_WITH_NAME", "a table's file is gone", "mysql"),
        Row(3512, "SP_LOAD_FAILED", "a function cannot be loaded", "mysql"),
        Row(3629, "MISSING_TABLESPACE_FILE", "a table's file is gone", "mysql"),
        Row(3675, "DISK_FULL_NOWAIT", "the disk is full", "mysql"),
        Row(3679, "SCHEMA_DIR_MISSING", "a schema's directory is gone", "mysql"),
        Row(3884, "NO_SESSION_TEMP", "no space for temporary tables", "mysql"),
        Row(3950, "DA_OOM", "out of memory", "mysql"),
        Row(3985, "MDL_OUT_OF_RESOURCES", "out of memory for locks", "mysql"),
        Row(4064, "METADATA_INCONSISTENCY", "MyRocks: a table's file is gone", "mariadb"),
        Row(4067, "RDB_STATUS_GENERAL", "MyRocks: the storage engine has failed", "mariadb"),
        Row(4068, "RDB_STATUS_MSG", "MyRocks: the storage engine has failed", "mariadb"),
        Row(4081, "DA_GLOBAL_CONN_LIMIT", "connections use as much memory as the server allows", "mysql"),
        Row(4087, "SEQUENCE_ACCESS_ERROR", "a sequence cannot be read", "mariadb"),
        Row(4182, "STORAGE_ENGINE_DISABLED", "a storage engine is not there", "mariadb"),
        Row(4185, "PROVIDER_NOT_LOADED", "the plugin that decompresses a table is not there", "mariadb"),
    ),
    # Listed because people look for them: no node is at fault, and nothing is sent again.
    "statement": (
        Row(1020, "CHECKREAD", "a row has changed in the meantime: run the transaction again"),
        Row(1153, "NET_PACKET_TOO_LARGE", "the statement is longer than max_allowed_packet"),
        Row(1205, "LOCK_WAIT_TIMEOUT", "it waited too long for a lock"),
        Row(1213, "LOCK_DEADLOCK", "a deadlock: run the transaction again"),
        Row(1317, "QUERY_INTERRUPTED", "somebody ended it with KILL QUERY"),
        Row(1969, "STATEMENT_TIMEOUT", "it took longer than max_statement_time", "mariadb"),
        Row(3024, "QUERY_TIMEOUT", "it took longer than max_execution_time", "mysql"),
    ),
}

# Refusals of this client while it connects. After connecting, the same number belongs to a statement.
NOT_LET_IN: tuple[Row, ...] = (
    Row(1042, "BAD_HOST_ERROR", "the server cannot look up this host's name"),
    Row(1043, "HANDSHAKE_ERROR", "the server did not understand the handshake"),
    Row(1044, "DBACCESS_DENIED_ERROR", "the user has no right on the schema"),
    Row(1045, "ACCESS_DENIED_ERROR", "wrong user or password"),
    # MySQL refuses SET NAMES with a character set that it knows, too, for a moment while it shuts down.
    Row(1115, "UNKNOWN_CHARACTER_SET", "the server does not know the character set"),
    Row(1251, "NOT_SUPPORTED_AUTH_MODE", "the client does not support the authentication method"),
    Row(1273, "UNKNOWN_COLLATION", "the server does not know the collation"),
    Row(1524, "PLUGIN_IS_NOT_LOADED", "the server has not loaded the authentication plugin"),
    Row(1698, "ACCESS_DENIED_NO_PASSWORD_ERROR", "wrong user or password"),
    Row(1862, "MUST_CHANGE_PASSWORD_LOGIN", "the password has expired"),
    Row(2049, "SECURE_AUTH", "the authentication method is too old"),
    Row(2059, "AUTH_PLUGIN_CANNOT_LOAD", "the client does not support the authentication method"),
    Row(2061, "AUTH_PLUGIN_ERR", "the client does not support the authentication method"),
    Row(3118, "ACCOUNT_HAS_BEEN_LOCKED", "the account is locked", "mysql"),
    Row(3159, "SECURE_TRANSPORT_REQUIRED", "the server requires TLS"),
    Row(3879, "DB_ACCESS_DENIED", "the user has no right on the schema", "mysql"),
    Row(
        3955,
        "USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK",
        "too many wrong passwords",
        "mysql",
    ),
    Row(4150, "USER_IS_BLOCKED", "too many wrong passwords", "mariadb"),
    Row(4151, "ACCOUNT_HAS_BEEN_LOCKED", "the account is locked", "mariadb"),
    Row(6126, "ACCESS_DENIED_NO_PROXY_GRANT", "the user has no right to act as another user", "mysql"),
    Row(6127, "ACCESS_DENIED_NO_PROXY", "the user to act as does not exist", "mysql"),
)
