"""JSON as the engine stores it: values and their limits, the forms of other types, patches."""
