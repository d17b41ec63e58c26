"""Soak: many sandboxes of many tenants for many minutes, some of them hostile, some killed. `python -m tests.soak`."""
