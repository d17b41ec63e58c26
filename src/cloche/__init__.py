"""cloche: agents that think in code, and the sandboxes that their code runs in.

The public names, each loaded on first use, so that `import cloche` costs next to nothing (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agents.code_agent import CodeAgent as CodeAgent
    from .agents.errors import AgentError as AgentError
    from .agents.errors import ModelError as ModelError
    from .agents.errors import ReplayMismatch as ReplayMismatch
    from .agents.messages import Message as Message
    from .agents.messages import ModelReply as ModelReply
    from .agents.messages import TokenUsage as TokenUsage
    from .agents.model import Model as Model
    from .agents.models.litellm import LiteLLMModel as LiteLLMModel
    from .agents.models.openai import OpenAIModel as OpenAIModel
    from .agents.models.recording import RecordingModel as RecordingModel
    from .agents.models.replay import ReplayModel as ReplayModel
    from .agents.models.scripted import ScriptedModel as ScriptedModel
    from .agents.result import RunResult as RunResult
    from .agents.result import Step as Step
    from .runtime.async_runtime import AsyncRuntime as AsyncRuntime
    from .runtime.async_sandbox import AsyncSandbox as AsyncSandbox
    from .runtime.cell import Artifact as Artifact
    from .runtime.cell import Cell as Cell
    from .runtime.config import RuntimeConfig as RuntimeConfig
    from .runtime.errors import CannotCross as CannotCross
    from .runtime.errors import ClocheError as ClocheError
    from .runtime.errors import ConfigError as ConfigError
    from .runtime.errors import ImageError as ImageError
    from .runtime.errors import LimitExceeded as LimitExceeded
    from .runtime.errors import OutOfMemory as OutOfMemory
    from .runtime.errors import PoolExhausted as PoolExhausted
    from .runtime.errors import ProtocolError as ProtocolError
    from .runtime.errors import RuntimeClosed as RuntimeClosed
    from .runtime.errors import SandboxBusy as SandboxBusy
    from .runtime.errors import SandboxClosed as SandboxClosed
    from .runtime.errors import SandboxFileError as SandboxFileError
    from .runtime.errors import TimedOut as TimedOut
    from .runtime.errors import UsedAfterFork as UsedAfterFork
    from .runtime.errors import WallMissing as WallMissing
    from .runtime.errors import WorkerCrashed as WorkerCrashed
    from .runtime.limits import Limits as Limits
    from .runtime.policy import Policy as Policy
    from .runtime.runtime import Runtime as Runtime
    from .runtime.sandbox import Sandbox as Sandbox
    from .runtime.tools import Tool as Tool
    from .runtime.tools import ToolError as ToolError
    from .runtime.tools import tool as tool

__version__ = "0.1.0"

_MODULES = {
    "AgentError": "agents.errors",
    "Artifact": "runtime.cell",
    "AsyncRuntime": "runtime.async_runtime",
    "AsyncSandbox": "runtime.async_sandbox",
    "CannotCross": "runtime.errors",
    "Cell": "runtime.cell",
    "ClocheError": "runtime.errors",
    "CodeAgent": "agents.code_agent",
    "ConfigError": "runtime.errors",
    "ImageError": "runtime.errors",
    "LimitExceeded": "runtime.errors",
    "Limits": "runtime.limits",
    "LiteLLMModel": "agents.models.litellm",
    "Message": "agents.messages",
    "Model": "agents.model",
    "ModelError": "agents.errors",
    "ModelReply": "agents.messages",
    "OpenAIModel": "agents.models.openai",
    "OutOfMemory": "runtime.errors",
    "Policy": "runtime.policy",
    "PoolExhausted": "runtime.errors",
    "ProtocolError": "runtime.errors",
    "RecordingModel": "agents.models.recording",
    "ReplayMismatch": "agents.errors",
    "ReplayModel": "agents.models.replay",
    "RunResult": "agents.result",
    "Runtime": "runtime.runtime",
    "RuntimeClosed": "runtime.errors",
    "RuntimeConfig": "runtime.config",
    "Sandbox": "runtime.sandbox",
    "SandboxBusy": "runtime.errors",
    "SandboxClosed": "runtime.errors",
    "SandboxFileError": "runtime.errors",
    "ScriptedModel": "agents.models.scripted",
    "Step": "agents.result",
    "TimedOut": "runtime.errors",
    "TokenUsage": "agents.messages",
    "Tool": "runtime.tools",
    "ToolError": "runtime.tools",
    "UsedAfterFork": "runtime.errors",
    "WallMissing": "runtime.errors",
    "WorkerCrashed": "runtime.errors",
    "tool": "runtime.tools",
}
"""Where each public name is defined."""

__all__ = [
    "AgentError",
    "Artifact",
    "AsyncRuntime",
    "AsyncSandbox",
    "CannotCross",
    "Cell",
    "ClocheError",
    "CodeAgent",
    "ConfigError",
    "ImageError",
    "LimitExceeded",
    "Limits",
    "LiteLLMModel",
    "Message",
    "Model",
    "ModelError",
    "ModelReply",
    "OpenAIModel",
    "OutOfMemory",
    "Policy",
    "PoolExhausted",
    "ProtocolError",
    "RecordingModel",
    "ReplayMismatch",
    "ReplayModel",
    "RunResult",
    "Runtime",
    "RuntimeClosed",
    "RuntimeConfig",
    "Sandbox",
    "SandboxBusy",
    "SandboxClosed",
    "SandboxFileError",
    "ScriptedModel",
    "Step",
    "TimedOut",
    "TokenUsage",
    "Tool",
    "ToolError",
    "UsedAfterFork",
    "WallMissing",
    "WorkerCrashed",
    "tool",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
