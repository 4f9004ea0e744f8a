"""The DAG of a workflow: its order, its pictures, and what is stored of it."""
