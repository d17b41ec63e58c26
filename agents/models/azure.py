"""`AzureOpenAIModel`: OpenAI's models as Azure serves them. `OpenAIModel` with another address and another header."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from ...runtime.errors import ConfigError
from .openai import OpenAIModel, OpenAIOptions

if TYPE_CHECKING:
    from typing import Unpack


class AzureOpenAIModel(OpenAIModel):
    """A deployment at an Azure OpenAI resource."""

    _limit_name = "max_completion_tokens"

    def __init__(
        self,
        deployment: str,
        *,
        azure_endpoint: str | None = None,
        api_key: str | None = None,
        api_version: str | None = None,
        **options: Unpack[OpenAIOptions],
    ) -> None:
        """Nothing is sent yet.

        Args:
            deployment: its name, which need not be the model's.
            azure_endpoint: such as `https://NAME.openai.azure.com`; None: the variable `AZURE_OPENAI_ENDPOINT`.
            api_key: None: the variable `AZURE_OPENAI_API_KEY`. To use an Entra token instead, give
                `headers={"authorization": "Bearer ..."}` and an empty key.
            api_version: of the dated API, such as "2024-10-21"; None: the undated `v1` API.
            options: as of `OpenAIModel`.

        Raises:
            ConfigError: there is no endpoint, or it cannot be.
        """
        endpoint = azure_endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not endpoint:
            raise ConfigError("azure_endpoint is missing, and so is the variable AZURE_OPENAI_ENDPOINT")
        base = endpoint.rstrip("/")
        if api_version is not None:
            self._path = f"/chat/completions?api-version={quote(api_version, safe='')}"
            url = f"{base}/openai/deployments/{quote(deployment, safe='')}"
        else:
            url = f"{base}/openai/v1"
        key = api_key if api_key is not None else os.environ.get("AZURE_OPENAI_API_KEY", "")
        super().__init__(deployment, base_url=url, api_key=key, **options)

    def _key_headers(self, key: str) -> dict[str, str]:
        return {"api-key": key} if key else {}
