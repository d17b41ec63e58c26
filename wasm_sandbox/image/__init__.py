"""The image: Pyodide's interpreter, prepared once, baked, hashed and cached. `docs/design/image.md` is its page."""
