"""Frozen values: states, contexts, keys, rules, tasks, workflows, DAGs. No I/O."""
