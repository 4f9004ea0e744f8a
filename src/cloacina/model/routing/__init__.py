"""Where a task runs: its namespace, and the rules that match it; see `docs/how-to/routing.md`."""

from cloacina.model.routing.namespace import TaskNamespace, parse_namespace
from cloacina.model.routing.routing import RoutingRule

__all__ = ["RoutingRule", "TaskNamespace", "parse_namespace"]
