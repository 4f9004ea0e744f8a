"""Tenants with credentials of their own: each customer's worker is a process that can reach nothing else.

    python tenants.py

An administrator makes two tenants and hands each of them what it needs, here as an environment variable for its
worker; in production that is a secret. A worker never sees the administrator's login. Then acme's worker is started
once more with the name of bravo's schema, and is refused. In the end the tenants are removed.

The tenants are files in the folder `tenants`. With `DATABASE_URL=postgresql://...` of an administrator, they are
schemas of that database, each with a login role that has no rights anywhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from cloacina import Context, Runner, Workflow
from cloacina.errors import AdminError, StoreError
from cloacina.tenants import DatabaseAdmin, TenantConfig, TenantCredentials

FOLDER = Path("tenants")
AMOUNTS = {"acme": [40.0, 2.0], "bravo": [7.5, 7.5, 7.5]}

invoice = Workflow("invoice", description="What a customer owes")


@invoice.task
def add_up(ctx: Context) -> None:
    ctx["total"] = sum(ctx["amounts"])


@invoice.task(dependencies=[add_up])
async def write(ctx: Context) -> None:
    ctx["text"] = f"{ctx['customer']} owes {ctx['total']:.2f}"


# What the worker of a tenant does.


async def worker(customer: str) -> None:
    given = json.loads(os.environ["TENANT"])
    try:
        async with Runner(given["url"], schema=given["schema"], workflows=[invoice]) as runner:
            # The same key in two tenants: they have nothing to do with each other.
            result = await runner.execute(
                invoice, {"customer": customer, "amounts": AMOUNTS[customer]}, key="invoice-1"
            )
            stored = await runner.list()
    except StoreError as error:
        sys.exit(f"refused: {error}")
    print(f"  {result.context['text']} ({len(stored)} execution in this tenant)")


# What the administrator does.


def administrator() -> DatabaseAdmin:
    url = os.environ.get("DATABASE_URL")
    if url is not None:
        return DatabaseAdmin(url)
    FOLDER.mkdir(exist_ok=True)
    return DatabaseAdmin(f"sqlite:///{FOLDER}/")


def start(tenant: TenantCredentials, schema: str | None) -> subprocess.CompletedProcess[str]:
    """A worker that has the tenant's credentials, and not the administrator's."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["TENANT"] = json.dumps({"url": tenant.url, "schema": schema})
    command = [sys.executable, __file__, "worker", tenant.name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def main() -> None:
    admin = administrator()
    print(f"{admin} has the tenants {await admin.list_tenants()}")
    tenants = [await admin.create_tenant(TenantConfig(name, connection_limit=20)) for name in AMOUNTS]
    try:
        for tenant in tenants:
            print(tenant)
            ended = await asyncio.to_thread(start, tenant, tenant.schema)
            assert ended.returncode == 0, ended.stderr
            print(ended.stdout, end="")
        acme, bravo = tenants
        if bravo.schema is not None:
            ended = await asyncio.to_thread(start, acme, bravo.schema)
            assert ended.returncode == 1 and "permission denied" in ended.stderr
            print("With acme's login and bravo's schema:")
            print(f"  {ended.stderr.strip().partition(' (schema')[0]} ...")
        try:
            await admin.create_tenant(TenantConfig("acme"))
        except AdminError:
            print("There is one acme, and it stays as it is.")
    finally:
        for tenant in tenants:
            await admin.remove_tenant(tenant.name)
    print(f"All are removed: {await admin.list_tenants()}")


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[2]) if sys.argv[1:2] == ["worker"] else main())
