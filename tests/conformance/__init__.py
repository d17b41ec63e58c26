"""CPython's own tests inside the guest: `python -m tests.conformance`. See docs/conformance.md."""
