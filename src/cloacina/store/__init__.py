"""The only place with SQL: one module per noun, and what each database does its own way."""
