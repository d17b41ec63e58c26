"""The OS jail around workers: raised once by the fork server, closed by each worker before a tenant's first byte.

The rule: nothing is imported here, as the host reads only what the jail reports. Start at `profile.py`. What each wall
keeps out, and where it exists: docs/design/jail.md.
"""
