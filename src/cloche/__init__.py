"""cloche: agents that think in code, and the sandboxes that their code runs in.

The public names, each loaded on first use, so that `import cloche` costs next to nothing (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agents.box import SandboxOptions as SandboxOptions
    from .agents.budget import Budget as Budget
    from .agents.budget import Spent as Spent
    from .agents.code_agent import CodeAgent as CodeAgent
    from .agents.compaction import Compaction as Compaction
    from .agents.console import ConsoleLogger as ConsoleLogger
    from .agents.conversation import Conversation as Conversation
    from .agents.errors import AgentError as AgentError
    from .agents.errors import AnswerRejected as AnswerRejected
    from .agents.errors import BudgetExceeded as BudgetExceeded
    from .agents.errors import MemoryFileError as MemoryFileError
    from .agents.errors import ModelError as ModelError
    from .agents.errors import ModelUnsupported as ModelUnsupported
    from .agents.errors import ReplayMismatch as ReplayMismatch
    from .agents.hooks import Hooks as Hooks
    from .agents.hooks import Veto as Veto
    from .agents.managed import ManagedAgent as ManagedAgent
    from .agents.messages import Image as Image
    from .agents.messages import Message as Message
    from .agents.messages import ModelReply as ModelReply
    from .agents.messages import ModelRequest as ModelRequest
    from .agents.messages import ResponseFormat as ResponseFormat
    from .agents.messages import TokenUsage as TokenUsage
    from .agents.messages import ToolCallRequest as ToolCallRequest
    from .agents.messages import ToolSchema as ToolSchema
    from .agents.model import Model as Model
    from .agents.models.anthropic import AnthropicModel as AnthropicModel
    from .agents.models.azure import AzureOpenAIModel as AzureOpenAIModel
    from .agents.models.fallback import FallbackModel as FallbackModel
    from .agents.models.inference_client import InferenceClientModel as InferenceClientModel
    from .agents.models.litellm import LiteLLMModel as LiteLLMModel
    from .agents.models.openai import OpenAIModel as OpenAIModel
    from .agents.models.prices import Prices as Prices
    from .agents.models.recording import RecordingModel as RecordingModel
    from .agents.models.replay import ReplayModel as ReplayModel
    from .agents.models.retry import Retry as Retry
    from .agents.models.scripted import ScriptedModel as ScriptedModel
    from .agents.models.transformers import TransformersModel as TransformersModel
    from .agents.result import ActionStep as ActionStep
    from .agents.result import FinalAnswerStep as FinalAnswerStep
    from .agents.result import PlanningStep as PlanningStep
    from .agents.result import RunResult as RunResult
    from .agents.result import StepError as StepError
    from .agents.result import TaskStep as TaskStep
    from .agents.telemetry import OpenTelemetryTracer as OpenTelemetryTracer
    from .agents.tool_calling_agent import ToolCallingAgent as ToolCallingAgent
    from .agents.transcript import transcript as transcript
    from .runtime.async_runtime import AsyncRuntime as AsyncRuntime
    from .runtime.async_sandbox import AsyncSandbox as AsyncSandbox
    from .runtime.cell import Artifact as Artifact
    from .runtime.cell import Cell as Cell
    from .runtime.config import RuntimeConfig as RuntimeConfig
    from .runtime.errors import CannotCross as CannotCross
    from .runtime.errors import ClocheError as ClocheError
    from .runtime.errors import ConfigError as ConfigError
    from .runtime.errors import FrameTooLarge as FrameTooLarge
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
    from .runtime.metadata import Metadata as Metadata
    from .runtime.policy import Policy as Policy
    from .runtime.runtime import Runtime as Runtime
    from .runtime.sandbox import Sandbox as Sandbox
    from .runtime.tenants import TenantLimits as TenantLimits
    from .runtime.tenants import TenantUse as TenantUse
    from .runtime.tool_hooks import Allow as Allow
    from .runtime.tool_hooks import Deny as Deny
    from .runtime.tool_hooks import Edited as Edited
    from .runtime.tool_hooks import ToolFinished as ToolFinished
    from .runtime.tool_hooks import ToolObserver as ToolObserver
    from .runtime.tool_hooks import ToolRequest as ToolRequest
    from .runtime.tool_hooks import ToolStarted as ToolStarted
    from .runtime.tools import Tool as Tool
    from .runtime.tools import ToolError as ToolError
    from .runtime.tools import tool as tool

__version__ = "0.1.0"

_MODULES = {
    "ActionStep": "agents.result",
    "AgentError": "agents.errors",
    "Allow": "runtime.tool_hooks",
    "AnswerRejected": "agents.errors",
    "AnthropicModel": "agents.models.anthropic",
    "Artifact": "runtime.cell",
    "AsyncRuntime": "runtime.async_runtime",
    "AsyncSandbox": "runtime.async_sandbox",
    "AzureOpenAIModel": "agents.models.azure",
    "Budget": "agents.budget",
    "BudgetExceeded": "agents.errors",
    "CannotCross": "runtime.errors",
    "Cell": "runtime.cell",
    "ClocheError": "runtime.errors",
    "CodeAgent": "agents.code_agent",
    "Compaction": "agents.compaction",
    "ConfigError": "runtime.errors",
    "ConsoleLogger": "agents.console",
    "Conversation": "agents.conversation",
    "Deny": "runtime.tool_hooks",
    "Edited": "runtime.tool_hooks",
    "FallbackModel": "agents.models.fallback",
    "FinalAnswerStep": "agents.result",
    "FrameTooLarge": "runtime.errors",
    "Hooks": "agents.hooks",
    "Image": "agents.messages",
    "ImageError": "runtime.errors",
    "InferenceClientModel": "agents.models.inference_client",
    "LimitExceeded": "runtime.errors",
    "Limits": "runtime.limits",
    "LiteLLMModel": "agents.models.litellm",
    "ManagedAgent": "agents.managed",
    "MemoryFileError": "agents.errors",
    "Message": "agents.messages",
    "Metadata": "runtime.metadata",
    "Model": "agents.model",
    "ModelError": "agents.errors",
    "ModelReply": "agents.messages",
    "ModelRequest": "agents.messages",
    "ModelUnsupported": "agents.errors",
    "OpenAIModel": "agents.models.openai",
    "OpenTelemetryTracer": "agents.telemetry",
    "OutOfMemory": "runtime.errors",
    "PlanningStep": "agents.result",
    "Policy": "runtime.policy",
    "PoolExhausted": "runtime.errors",
    "Prices": "agents.models.prices",
    "ProtocolError": "runtime.errors",
    "RecordingModel": "agents.models.recording",
    "ReplayMismatch": "agents.errors",
    "ReplayModel": "agents.models.replay",
    "ResponseFormat": "agents.messages",
    "Retry": "agents.models.retry",
    "RunResult": "agents.result",
    "Runtime": "runtime.runtime",
    "RuntimeClosed": "runtime.errors",
    "RuntimeConfig": "runtime.config",
    "Sandbox": "runtime.sandbox",
    "SandboxBusy": "runtime.errors",
    "SandboxClosed": "runtime.errors",
    "SandboxFileError": "runtime.errors",
    "SandboxOptions": "agents.box",
    "ScriptedModel": "agents.models.scripted",
    "Spent": "agents.budget",
    "StepError": "agents.result",
    "TaskStep": "agents.result",
    "TenantLimits": "runtime.tenants",
    "TenantUse": "runtime.tenants",
    "TimedOut": "runtime.errors",
    "TokenUsage": "agents.messages",
    "Tool": "runtime.tools",
    "ToolCallRequest": "agents.messages",
    "ToolCallingAgent": "agents.tool_calling_agent",
    "ToolError": "runtime.tools",
    "ToolFinished": "runtime.tool_hooks",
    "ToolObserver": "runtime.tool_hooks",
    "ToolRequest": "runtime.tool_hooks",
    "ToolSchema": "agents.messages",
    "ToolStarted": "runtime.tool_hooks",
    "TransformersModel": "agents.models.transformers",
    "UsedAfterFork": "runtime.errors",
    "Veto": "agents.hooks",
    "WallMissing": "runtime.errors",
    "WorkerCrashed": "runtime.errors",
    "tool": "runtime.tools",
    "transcript": "agents.transcript",
}
"""Where each public name is defined."""

__all__ = [
    "ActionStep",
    "AgentError",
    "Allow",
    "AnswerRejected",
    "AnthropicModel",
    "Artifact",
    "AsyncRuntime",
    "AsyncSandbox",
    "AzureOpenAIModel",
    "Budget",
    "BudgetExceeded",
    "CannotCross",
    "Cell",
    "ClocheError",
    "CodeAgent",
    "Compaction",
    "ConfigError",
    "ConsoleLogger",
    "Conversation",
    "Deny",
    "Edited",
    "FallbackModel",
    "FinalAnswerStep",
    "FrameTooLarge",
    "Hooks",
    "Image",
    "ImageError",
    "InferenceClientModel",
    "LimitExceeded",
    "Limits",
    "LiteLLMModel",
    "ManagedAgent",
    "MemoryFileError",
    "Message",
    "Metadata",
    "Model",
    "ModelError",
    "ModelReply",
    "ModelRequest",
    "ModelUnsupported",
    "OpenAIModel",
    "OpenTelemetryTracer",
    "OutOfMemory",
    "PlanningStep",
    "Policy",
    "PoolExhausted",
    "Prices",
    "ProtocolError",
    "RecordingModel",
    "ReplayMismatch",
    "ReplayModel",
    "ResponseFormat",
    "Retry",
    "RunResult",
    "Runtime",
    "RuntimeClosed",
    "RuntimeConfig",
    "Sandbox",
    "SandboxBusy",
    "SandboxClosed",
    "SandboxFileError",
    "SandboxOptions",
    "ScriptedModel",
    "Spent",
    "StepError",
    "TaskStep",
    "TenantLimits",
    "TenantUse",
    "TimedOut",
    "TokenUsage",
    "Tool",
    "ToolCallRequest",
    "ToolCallingAgent",
    "ToolError",
    "ToolFinished",
    "ToolObserver",
    "ToolRequest",
    "ToolSchema",
    "ToolStarted",
    "TransformersModel",
    "UsedAfterFork",
    "Veto",
    "WallMissing",
    "WorkerCrashed",
    "tool",
    "transcript",
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
