"""The agents' own errors, below `ClocheError`.

    AgentError                a run could not go on; `result` holds what it had by then
    ├── ParsingError          a reply of the model holds no code that may be run
    └── ModelError            the model gave no usable reply
        ├── ModelUnavailable  no answer after all retries: network, timeout, 5xx
        ├── ModelRateLimited  429 after all retries; says when to come back
        ├── ModelDenied       401 or 403: the key or its rights are wrong
        ├── ModelRefused      another 4xx: this request will never do
        ├── BadReply          an answer that is no chat completion, or is too large
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


class ReplayMismatch(ModelError):
    """A request that is not in the recording."""

    code = "replay_mismatch"
