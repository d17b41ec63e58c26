"""What the examples share: who plays the model. Not an example itself.

The rule: without `--model NAME` (or CLOCHE_MODEL) the model's words are a script, so every example runs with no key and
no server; all else (sandbox, tools, HTTP) is real in both cases.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from textwrap import dedent

from cloche import LiteLLMModel, Model, OpenAIModel, ScriptedModel
from cloche.agents.models.scripted import Line


def code(text: str) -> str:
    """A reply of a code agent's model: one Python block."""
    return f"```python\n{dedent(text).strip()}\n```"


def chosen_model(script: Iterable[Line]) -> Model:
    """The live model if one was named, else the script.

    A live one is LiteLLM's name for it or, with `--base-url` (CLOCHE_BASE_URL) and CLOCHE_API_KEY, a model of an
    endpoint that speaks chat completions: OpenAI, vLLM, Ollama, llama.cpp.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=os.environ.get("CLOCHE_MODEL"), help="run live; default: a script")
    parser.add_argument("--base-url", default=os.environ.get("CLOCHE_BASE_URL"), help="endpoint of the live model")
    given = parser.parse_args()
    if not given.model:
        return ScriptedModel(script)
    if given.base_url:
        return OpenAIModel(given.model, base_url=given.base_url, api_key=os.environ.get("CLOCHE_API_KEY"))
    return LiteLLMModel(given.model)
