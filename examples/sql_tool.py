"""A class as a tool: SQL on a database of the host's, read-only whatever the model writes.

The constraints are in the tool: the connection cannot write, rows and time are capped. The database's path stays here.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from _models import chosen_model, code

from cloche import CodeAgent, Tool, ToolError

ROWS = [("tea", "north", 40), ("tea", "south", 25), ("milk", "north", 90)]
SCRIPT = [
    code("sql_query('DELETE FROM sales')"),
    code("""
        rows = sql_query("SELECT item, SUM(amount) FROM sales GROUP BY item")
        final_answer(max(rows, key=lambda row: row[1])[0])
        """),
]


class SqlQueryTool(Tool):
    name = "sql_query"
    description = "Runs one SELECT on the analytics database. Table: sales(item, region, amount)."
    inputs = {"query": {"type": "string", "description": "the SELECT"}}
    output_type = "array"
    output_schema = {"type": "array", "items": {"type": "array"}}
    read_only = True

    def __init__(self, path: Path, *, max_rows: int = 50, max_s: float = 2.0) -> None:
        super().__init__()
        self._uri = f"{path.as_uri()}?mode=ro"
        self._max_rows = max_rows
        self._max_s = max_s

    def forward(self, query: str) -> list[list[object]]:
        with closing(sqlite3.connect(self._uri, uri=True)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # no other file
            until = time.monotonic() + self._max_s
            connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            try:
                return [list(row) for row in connection.execute(query).fetchmany(self._max_rows)]
            except sqlite3.Error as exc:
                raise ToolError(str(exc)) from exc  # what SQLite says of a query is fit for the model


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shop.db")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE sales(item, region, amount)")
            connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", ROWS)
        agent = CodeAgent([SqlQueryTool(path)], chosen_model(SCRIPT))
        result = agent.run("Which item sells best?")
        for step in result.steps:
            print(f"step {step.number}:", step.error.message if step.error else "ok")
        print("Answer:", result.output)


if __name__ == "__main__":
    main()
