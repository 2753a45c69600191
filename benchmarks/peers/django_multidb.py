"""Django with django-multidb-router: its pinning router, and the middleware that pins a user who wrote."""

from __future__ import annotations

from typing import Any

from .base import Answer, Program, Site

NAME = "Django, django-multidb-router"
DOCUMENTATION = "pypi.org/project/django-multidb-router, PinningReplicaRouter"
FORM = "PinningReplicaRouter and PinningRouterMiddleware; the user's cookie pins for 15 s after a POST"
PACKAGES = ("Django", "django-multidb-router", "PyMySQL")

_state: dict[str, Any] = {}


class Django(Program):
    """Reads by the ORM; a request goes through Django's middleware, by its test client, with cookies."""

    def __init__(self, alias: str | None) -> None:
        from django.test import Client

        self.alias = alias
        self.row = _state["row"]
        self.visitors = _state["local"]
        self.client = Client

    def read(self, key: int) -> Answer:
        rows = self.row.objects if self.alias is None else self.row.objects.using(self.alias)
        row = rows.get(pk=key)
        return Answer(row.n, row.node)

    def visit_read(self, key: int) -> Answer:
        found = self._client().get("/", {"key": key}).json()
        return Answer(found["n"], found["node"])

    def visit_write(self, key: int, n: int) -> None:
        self._client().post("/", {"key": key, "n": n})

    def _client(self) -> Any:
        # Each user has cookies, and each thread users of its own.
        clients = vars(self.visitors)
        if self.user not in clients:
            clients[self.user] = self.client()
        return clients[self.user]

    def close(self) -> None:
        from django.db import connections

        connections.close_all()


def configure(site: Site) -> None:
    """Django's settings, which exist once in a process."""
    if _state:
        return
    import threading

    import django
    import pymysql
    from django.conf import settings

    pymysql.install_as_MySQLdb()

    def database(address: Any) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": site.database,
            "USER": site.user,
            "PASSWORD": site.password,
            "HOST": address.host,
            "PORT": address.port,
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
        }

    replicas = {f"replica-{number}": database(address) for number, address in enumerate(site.replicas, 1)}
    settings.configure(
        DATABASES={"default": database(site.primary), **replicas},
        REPLICA_DATABASES=list(replicas),
        DATABASE_ROUTERS=["multidb.PinningReplicaRouter"],
        MIDDLEWARE=["multidb.middleware.PinningRouterMiddleware"],
        ROOT_URLCONF=f"{__package__}.django_urls",
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a program that serves nobody",
        USE_TZ=True,
    )
    django.setup()
    from django.db import models

    class Row(models.Model):
        id = models.AutoField(primary_key=True)
        n = models.IntegerField()
        node = models.IntegerField()
        name = models.CharField(max_length=255)

        class Meta:
            app_label = "bench"
            db_table = "bench_row"
            managed = False

    _state["row"] = Row
    _state["local"] = threading.local()


def view(request: Any) -> Any:
    """The one page: GET reads a row, POST changes it."""
    from django.http import JsonResponse

    row = _state["row"]
    if request.method == "POST":
        row.objects.filter(pk=request.POST["key"]).update(n=request.POST["n"])
        return JsonResponse({})
    found = row.objects.get(pk=request.GET["key"])
    return JsonResponse({"n": found.n, "node": found.node})


def plain(site: Site) -> Program:
    """One of the databases named by the program, which asks no router."""
    configure(site)
    return Django("replica-1")


def routed(site: Site) -> Program:
    """The router chooses."""
    configure(site)
    return Django(None)
