"""`InferenceClientModel`: models behind Hugging Face's router. `OpenAIModel` with the address and the token for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ...runtime.errors import ConfigError
from .openai import OpenAIModel, OpenAIOptions

if TYPE_CHECKING:
    from typing import Unpack

ROUTER_URL: Final = "https://router.huggingface.co/v1"


class InferenceClientModel(OpenAIModel):
    """A model at Hugging Face's inference providers, or at an endpoint of one's own there."""

    def __init__(
        self,
        model: str,
        *,
        provider: str | None = None,
        token: str | None = None,
        bill_to: str | None = None,
        base_url: str | None = None,
        **options: Unpack[OpenAIOptions],
    ) -> None:
        """Nothing is sent yet.

        Args:
            model: its name on the hub, such as "Qwen/Qwen3-Coder-30B-A3B-Instruct".
            provider: who runs it, such as "together", or a policy such as "cheapest"; None: the router chooses.
            token: None: the variable `HF_TOKEN`, but only to the router itself.
            bill_to: the organisation that pays.
            base_url: of an inference endpoint of one's own, up to and with `/v1`.
            options: as of `OpenAIModel`.

        Raises:
            ConfigError: the URL or a number cannot be, or the model names a provider already.
        """
        if provider is not None and ":" in model:
            raise ConfigError(f"{model!r} names a provider already; leave out provider=")
        key = token if token is not None else os.environ.get("HF_TOKEN", "") if base_url is None else ""
        if bill_to is not None:
            options["headers"] = {"x-hf-bill-to": bill_to, **(options.get("headers") or {})}
        name = model if provider is None else f"{model}:{provider}"
        super().__init__(name, base_url=base_url or ROUTER_URL, api_key=key, **options)
