"""The smallest workflow: one task, one line to run it.

    python 01_first_workflow.py

It leaves `cloacina.db` in the current folder: that file is the whole installation.
"""

from __future__ import annotations

import cloacina

hello = cloacina.Workflow("hello", description="Greet somebody")


@hello.task
def greet(ctx: cloacina.Context) -> None:
    """Write a greeting into the context."""
    ctx["greeting"] = f"Hello, {ctx['name']}!"


if __name__ == "__main__":
    result = cloacina.run(hello, {"name": "Ada"})
    print(result.summary)
    print(result.context["greeting"])
