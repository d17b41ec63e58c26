"""The worst sandbox that could be built: guest, bridge and host in one process, every known mistake made once.

Never import this. `reference_sandbox.py` runs it as a child process, to show that probes and verdict notice the
mistakes. Each one is marked with the probes that it falls to.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle  # noqa: TID251  # on purpose
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import cast


class WeakHost:
    def __init__(self, config: dict[str, object]) -> None:
        self.secret = str(config["secret"])  # a secret in guest memory: env-08
        self.calls_path = str(config["calls"])
        self.log: list[str] = []
        self.arguments: list[object] = []
        self.answers: list[object] = []
        self.value: object = None
        self.ids = 0
        self.out_path = str(config["stdout"])
        self.err_path = str(config["stderr"])

    # --- tools: no grants (brg-07, brg-26), no schema -----------------------------------------------------------------

    def echo(self, x: object) -> object:
        self.arguments.append(x)
        return x

    def secret_tool(self, *_args: object, **_kwargs: object) -> str:
        with open(self.calls_path, "ab") as file:
            file.write(b"x")
        return self.secret

    def tool(self, name: str) -> Callable[..., object]:
        return {"echo": self.echo, "secret_tool": self.secret_tool}[name]

    def call_tool_bridge(self, name: object, args: object = (), *_rest: object) -> object:
        """Lies in the guest's builtins: brg-07."""
        if isinstance(name, dict):
            name = cast("dict[str, object]", name)["name"]
        return self.tool(str(name))(args)

    # --- the bridge: text made of values (brg-22), pickle (brg-09, brg-23), replies found in output (brg-19) ----------

    def guest_echo(self, x: object) -> object:
        self.ids += 1
        try:
            return self.serve(self.frame("echo", x))
        except BaseException:
            self.log.append(traceback.format_exc())  # the host's own traceback: brg-09, brg-12, brg-13, brg-14
            raise

    def frame(self, tool: str, x: object) -> str:
        if isinstance(x, int | float):
            return f'{{"id":{self.ids},"tool":"{tool}","x":{x!r}}}'  # brg-12, brg-22
        try:
            return json.dumps({"id": self.ids, "tool": tool, "x": x})  # in reach of the guest: brg-26
        except (TypeError, ValueError):
            return json.dumps({"id": self.ids, "tool": tool, "x": "pickle:" + base64.b64encode(_pickled(x)).decode()})

    def serve(self, frame: str) -> object:
        request = json.loads(frame)
        for found in self.frames_in_output():
            if found.get("type") == "tool_result" and found.get("id") == self.ids:
                return found["value"]  # brg-19
        x = self.unpickled(request["x"])
        json.dumps(x).encode("utf-8").decode()  # cycles: brg-14
        str(x).encode("utf-8")  # a log that cannot take every text: brg-13
        return self.tool(request["tool"])(x)

    def unpickled(self, value: object) -> object:
        if isinstance(value, str) and value.startswith("pickle:"):
            return pickle.loads(base64.b64decode(value[7:]))  # noqa: S301  # brg-23
        return value

    def frames_in_output(self) -> Iterator[dict[str, object]]:
        """Anything in the guest's output that looks like a frame is one: brg-01, brg-02, brg-04, brg-05."""
        decoder = json.JSONDecoder()
        for path in (self.out_path, self.err_path):
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            at = text.find("{")
            while at >= 0:
                try:
                    found, at = decoder.raw_decode(text, at)
                except ValueError:
                    at += 1
                else:
                    if isinstance(found, dict):
                        yield found
                at = text.find("{", at)

    # --- one cell -----------------------------------------------------------------------------------------------------

    def run(self, code: str) -> tuple[str, str, str]:
        """Outcome, error type and error text of one cell. No deadline, no caps, exceptions taken for ours."""
        names = {"__name__": "__main__", "echo": self.guest_echo, "final_answer": self.answers.append}
        __builtins__.call_tool_bridge = self.call_tool_bridge  # type: ignore[attr-defined]
        try:
            exec(compile(code, "<cell>", "exec"), names)
        except KeyboardInterrupt:
            return "TimedOut", "", ""  # hp-10
        except Exception as exc:  # noqa: BLE001  # as such hosts do
            text = f"{exc!r}\n{traceback.format_exc()}"  # reads files, has no bound: hp-07, hp-17, hp-18, hp-19
            return "cell", type(exc).__name__, text
        sys.stdout.flush()  # hp-12
        return "cell", "", ""

    def take_frames(self) -> None:
        for found in self.frames_in_output():
            if "result" in found or found.get("type") in ("result", "final_answer"):
                self.value = found.get("result", found.get("value"))
            elif found.get("method") == "tool_call":
                self.tool(cast("dict[str, str]", found["params"])["name"])()

    def render_answers(self) -> list[object]:
        """The host looks at objects of the guest: hp-01..05, hp-22, hp-28."""
        rendered: list[object] = []
        for value in self.answers:
            if value == None:  # noqa: E711  # hp-05
                continue
            if isinstance(value, str):  # hp-04
                rendered.append(str(value.encode(), "utf-8"))
                rendered.append(self.unpickled(value) if type(value) is str else None)  # brg-23
            else:
                rendered.append(repr(value))  # hp-01, hp-02, hp-03, hp-22
        return rendered

    def report(self, outcome: tuple[str, str, str]) -> dict[str, object]:
        self.take_frames()
        rendered = self.render_answers()
        with open(self.out_path, encoding="utf-8") as file:
            stdout = file.read()  # strict: hp-14
        with open(self.err_path, encoding="utf-8") as file:
            stderr = file.read()
        self.log += stderr.splitlines()  # raw guest text as log records: hp-20
        text_of = "\n".join(map(str, rendered))
        return {
            "outcome": outcome[0],
            "error_type": outcome[1],
            "error_text": outcome[2],
            "stdout": stdout,
            "stderr": stderr,
            "value": self.value if self.value is not None else text_of,
            "value_repr": text_of,
            "tool_arguments": [repr(value)[:10_000] for value in self.arguments],
            "log": self.log,
        }


def _pickled(value: object) -> bytes:
    return pickle.dumps(value)


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    resource.setrlimit(resource.RLIMIT_AS, (config["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 2**20, 512 * 2**20))
    warnings.simplefilter("always")
    for number, path in ((1, config["stdout"]), (2, config["stderr"])):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, number)
    host = WeakHost(config)
    outcome = ("cell", "", "")
    for code in config["codes"]:
        outcome = host.run(code)
        residue = [bytearray(b"CANARY-PLANT" * (size // 12)) for size in (4096, 65536) for _ in range(64)]
        residue.clear()  # what a tenant leaves in memory that is used again: per-10
    report = host.report(outcome)
    with contextlib.suppress(OSError):
        report["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(config["report"], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
    os._exit(0)  # threads and exit hooks of the guest are not waited for
