"""An agent for developers: it searches a repository, fetches a file and proposes a patch as a unified diff.

The repository's host is a server on this machine with GitHub's addresses (raw files, code search).
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from urllib.parse import quote, urlencode

from _local_web import Answer, Asked, local_web
from _models import chosen_model, code

from cloche import CodeAgent, Limits, tool

REPO = "cohorte/example-api"
FILES = {
    "app/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
    "app/router.py": (
        "from fastapi import APIRouter\n\nrouter = APIRouter()\n\n\n"
        '@router.post("/v1/completions")\nasync def completions(body: dict) -> dict:\n    return {"echo": body}\n'
    ),
}
TASK = f"""Add basic rate limiting to the FastAPI endpoints in the repo `{REPO}`. Find the main router file and
propose a patch that adds a simple in-memory rate limiter for the `/v1/completions` route. Return a unified diff."""
SCRIPT = [
    code(f"""
        # Where is the route?
        paths = search_codebase({REPO!r}, "/v1/completions")
        before = fetch_repo_file({REPO!r}, paths[0])
        print(paths, before, sep="\\n")
        """),
    code("""
        # Edit the text, and let difflib write the diff.
        import difflib
        limiter = '''import time
        from collections import deque

        from fastapi import APIRouter, HTTPException

        CALLS: deque[float] = deque()


        def limit(per_minute: int = 60) -> None:
            now = time.monotonic()
            while CALLS and CALLS[0] < now - 60:
                CALLS.popleft()
            if len(CALLS) >= per_minute:
                raise HTTPException(429, "too many requests")
            CALLS.append(now)
        '''
        after = before.replace("from fastapi import APIRouter\\n", limiter)
        after = after.replace("    return {", "    limit()\\n    return {")
        names = f"a/{paths[0]}", f"b/{paths[0]}"
        diff = difflib.unified_diff(before.splitlines(True), after.splitlines(True), *names)
        final_answer("".join(diff))
        """),
]


def git_host(asked: Asked) -> Answer:
    """Raw files at /OWNER/NAME/REF/PATH, and `GET /search/code`."""
    if asked.path == "/search/code":
        words = asked.query["q"].partition(" repo:")[0]
        return {"items": [{"path": path} for path, text in FILES.items() if words.lower() in text.lower()]}
    path = asked.path.removeprefix(f"/{REPO}/main/")
    return FILES.get(path)


def make_tools(address: str) -> list[Callable[..., object]]:
    def get(path: str) -> str:
        with urllib.request.urlopen(address + path, timeout=15) as answer:  # noqa: S310  # our own address
            return str(answer.read(1_000_000).decode())

    @tool(read_only=True)
    def fetch_repo_file(repo: str, path: str, ref: str = "main") -> str:
        """Content of a file in a repository.

        Args:
            repo: "owner/name".
            path: of the file in the repository.
            ref: branch or commit.
        """
        if not re.fullmatch(r"[\w-]+/[\w.-]+", repo) or not re.fullmatch(r"[\w-]+", ref) or ".." in path.split("/"):
            raise ValueError("repo is owner/name, ref a branch or commit, and path leads down")
        return get(f"/{repo}/{ref}/{quote(path)}")

    @tool(read_only=True)
    def search_codebase(repo: str, query: str, top_k: int = 5) -> list[str]:
        """Paths of files of a repository that contain a text."""
        found = json.loads(get(f"/search/code?{urlencode({'q': f'{query} repo:{repo}'})}"))
        return [str(item["path"]) for item in found["items"]][:top_k]

    return [fetch_repo_file, search_codebase]


def main() -> None:
    with local_web(git_host) as address:
        agent = CodeAgent(make_tools(address), chosen_model(SCRIPT), output_type=str, limits=Limits(wall_s=30))
        result = agent.run(TASK)
    print(result.output)
    print("The code that made it:", *(step.code for step in result.steps), sep="\n")


if __name__ == "__main__":
    main()
