"""Durable workflows inside a Python application."""
