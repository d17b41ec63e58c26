#!/bin/sh
# Finds a Python >= 3.11 that can make virtual environments and hands over to setup_venv.py.
# PYTHON=/path/to/python chooses one; an environment that already stands in .venv is kept.
set -eu
cd "$(dirname "$0")/.."

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for candidate in .venv/bin/python "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python python3.14; do
    if [ -n "$candidate" ] && usable "$candidate"; then
        exec "$candidate" scripts/setup_venv.py
    fi
done

echo "cloche needs Python 3.11 or newer with the modules venv and ensurepip (Debian, Ubuntu: apt install python3-venv)." >&2
echo "Install one, or name it: make PYTHON=/path/to/python ..." >&2
exit 1
