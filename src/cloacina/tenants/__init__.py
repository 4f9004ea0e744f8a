"""Tenants: isolated databases for customers, teams or stages, made and removed by an administrator.

::

    admin = DatabaseAdmin("postgresql://postgres:...@host/jobs")
    credentials = await admin.create_tenant(TenantConfig("acme"))
    async with Runner(credentials.url, schema=credentials.schema) as runner: ...

On PostgreSQL a tenant is a schema, and a login that reaches no other; on SQLite, where the administrator is given a
folder, a file in it. How to go about it stands in `docs/how-to/tenants.md`.
"""

from cloacina.tenants.admin import BlockingDatabaseAdmin, DatabaseAdmin
from cloacina.tenants.values import TenantConfig, TenantCredentials

__all__ = ["BlockingDatabaseAdmin", "DatabaseAdmin", "TenantConfig", "TenantCredentials"]
