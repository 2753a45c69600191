"""Stand-ins for the clients of secret stores, with the calls that the documentation makes."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

import pytest


def _password() -> str:
    return os.environ["DB_PASSWORD"]


class _RDS:
    def generate_db_auth_token(self, *, DBHostname: str, Port: int, DBUsername: str) -> str:
        assert (DBHostname.endswith(".db"), Port, DBUsername) == (True, 3306, "app")
        return _password()


class _SecretsManager:
    def get_secret_value(self, *, SecretId: str) -> dict[str, Any]:
        return {"SecretString": json.dumps({"username": "app", "password": _password()})}


class _VaultDatabase:
    def get_static_credentials(self, *, name: str) -> dict[str, Any]:
        return {"data": {"username": "app", "password": _password()}}


class _Vault:
    def __init__(self) -> None:
        self.secrets: Any = ModuleType("secrets")
        self.secrets.database = _VaultDatabase()


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import boto3`` and ``import hvac`` give the stand-ins."""
    boto3: Any = ModuleType("boto3")
    boto3.client = lambda name: {"rds": _RDS, "secretsmanager": _SecretsManager}[name]()
    hvac: Any = ModuleType("hvac")
    hvac.Client = _Vault
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    monkeypatch.setitem(sys.modules, "hvac", hvac)
