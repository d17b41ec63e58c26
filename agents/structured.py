"""Structured replies of a code agent: one JSON object with `thought` and `code`, asked for by `response_format`.

The rule: the same as for fences: only what stands in the field `code` runs. A reply that is not such an object runs
nothing, whatever it holds.
"""

from __future__ import annotations

import json
from typing import Final, cast

from .errors import ParsingError
from .messages import ResponseFormat
from .parsing import ParsedReply, without_reasoning

REPLY_FORMAT: Final = ResponseFormat(
    name="step",
    schema={
        "type": "object",
        "properties": {
            "thought": {"type": "string", "description": "One sentence: what the code does and why."},
            "code": {"type": "string", "description": "Python code to run."},
        },
        "required": ["thought", "code"],
        "additionalProperties": False,
    },
)
_FENCE: Final = "```"


def parse_structured(text: str, *, cut: bool = False) -> ParsedReply:
    """The thought and the code of a JSON reply; `cut` says that the reply hit a token limit.

    Raises:
        ParsingError: it is no such object. The message is written for the model.
    """
    if cut:
        raise ParsingError("Your reply was cut off before it ended. Nothing was run. Write shorter code.")
    try:
        found: object = json.loads(_bare(text))
    except (ValueError, RecursionError):
        raise ParsingError("Your reply is not a JSON object. Nothing was run.") from None
    if not isinstance(found, dict):
        raise ParsingError("Your reply is not a JSON object. Nothing was run.")
    fields = cast("dict[str, object]", found)
    code, thought = fields.get("code"), fields.get("thought", "")
    if not isinstance(code, str) or not code.strip():
        raise ParsingError('Your reply has no text in the field "code". Nothing was run.')
    return ParsedReply(thought.strip() if isinstance(thought, str) else "", code.strip("\n").rstrip())


def _bare(text: str) -> str:
    """The reply without reasoning tags before it and a fence around it, which some models add."""
    text = without_reasoning(text).strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) > 2 * len(_FENCE):
        return text.removesuffix(_FENCE).partition("\n")[2]
    return text
