"""The agents' own errors, below `ClocheError`.

    AgentError                a run could not go on; `result` holds what it had by then
    ├── ParsingError          a reply of the model holds no code that may be run
    ├── BudgetExceeded        a reservation does not fit the budget; inside a run it becomes the stop reason `budget`
    ├── AnswerRejected        the answer failed its checks or its type too often
    ├── MemoryFileError       a run cannot be saved, or a saved one is not what this release reads
    └── ModelError            the model gave no usable reply
        ├── ModelUnavailable  no answer after all retries: network, timeout, 5xx
        ├── ModelRateLimited  429 after all retries; says when to come back
        ├── ModelDenied       401 or 403: the key or its rights are wrong
        ├── ModelRefused      another 4xx: this request will never do
        ├── BadReply          an answer that is no chat completion, or is too large
        ├── ModelUnsupported  this model cannot do what was asked for; says what to use instead
        └── ReplayMismatch    the live conversation left the recorded one; shows the first difference

Code of the model that fails is not an error here: it is an observation, and the model gets to repair it. Running out of
steps or time is a stop reason of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.errors import ClocheError

if TYPE_CHECKING:
    from .result import RunResult


class AgentError(ClocheError):
    """A run could not go on."""

    code = "agent"

    result: RunResult | None = None
    """The steps and tokens that the run had used when it failed; None outside a run."""


class ParsingError(AgentError):
    """A reply without code that may be run. Inside a run it becomes an observation."""

    code = "parsing"


class BudgetExceeded(AgentError):
    """A cap of the budget does not allow this. Inside a run it becomes the stop reason `budget`."""

    code = "budget"

    def __init__(self, kind: str, *, needed: float, left: float, allowed: float) -> None:
        super().__init__(f"the budget of {allowed:g} {kind} has {left:g} left, and {needed:g} are needed")
        self.kind = kind
        """Name of the field of `Budget`."""
        self.needed = needed
        self.left = left
        self.allowed = allowed


class AnswerRejected(AgentError):
    """The model's answers failed `output_type` or `final_answer_checks` more often than `output_retries` allows.

    The message holds the last reason; `result` has the steps.
    """

    code = "answer_rejected"


class MemoryFileError(AgentError):
    """A run or conversation cannot be saved as it is, or a text is not one that this release has saved.

    The message says where and what to do. Nothing of the text was kept.
    """

    code = "memory_file"


class ModelError(AgentError):
    """The model gave no usable reply. The message never holds a key."""

    code = "model"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, where there was one."""


class ModelUnavailable(ModelError):
    """No answer after all retries. It may work later."""

    code = "model_unavailable"


class ModelRateLimited(ModelError):
    """The endpoint asks for fewer requests."""

    code = "model_rate_limited"

    def __init__(self, message: str, *, status: int | None = 429, retry_after_s: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s
        """What the endpoint asked for, in seconds; None if it did not say."""


class ModelDenied(ModelError):
    """The endpoint does not accept the key, or the key may not use this model."""

    code = "model_denied"


class ModelRefused(ModelError):
    """The endpoint refuses this very request; repeating it is of no use."""

    code = "model_refused"


class BadReply(ModelError):
    """Bytes that are no chat completion, or more of them than allowed."""

    code = "bad_reply"


class ModelUnsupported(ModelError):
    """The model cannot do what was asked for (tools, a response format, images). The message says what to use."""

    code = "model_unsupported"


class ReplayMismatch(ModelError):
    """A request that is not in the recording."""

    code = "replay_mismatch"
