"""Programs that split reads from writes, each as its own documentation says, behind one interface.

Every module here has a `NAME`, its `DOCUMENTATION`, and two functions that take a `Site` and return a
`Program`: `plain()`, the same tool without routing, and `routed()`.
"""

MODULES = (
    "ours",
    "two_databases",
    "haproxy_hop",
    "sqlalchemy_recipe",
    "advanced_alchemy_routing",
    "django_multidb",
    "aws_wrapper",
)
