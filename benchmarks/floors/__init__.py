"""The bare floor on each database: what writes a group that is known beforehand."""
