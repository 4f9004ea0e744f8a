"""Where attempts run: who runs next, the running of a body, and what is called after it."""
