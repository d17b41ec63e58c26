"""One agent, several models: chat completions, Anthropic's messages, and one that stands in when another fails.

The services are a server on this machine that speaks both protocols. With services of your own leave out `base_url`.
"""

from __future__ import annotations

from _local_web import Answer, Asked, local_web
from _models import code

from cloche import AnthropicModel, CodeAgent, FallbackModel, InferenceClientModel, Model, OpenAIModel, Prices, Retry

REPLY = code("final_answer(24 * 7)")


def services(asked: Asked) -> Answer:
    """`POST /v1/chat/completions` and `POST /v1/messages`; the model named "broken" is not there."""
    name = asked.json["model"]
    if name == "broken":
        return None
    if asked.path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": REPLY}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": name,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410},
        }
    if asked.path.endswith("/messages"):
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": name,
            "content": [{"type": "text", "text": REPLY}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 400, "output_tokens": 10},
        }
    return None


def models(address: str) -> list[Model]:
    url = f"{address}/v1"
    prices = Prices(input=0.40, output=1.60)  # US dollars per million tokens; yours, because lists grow stale
    openai = OpenAIModel("gpt-4.1-mini", base_url=url, api_key="key", prices=prices)
    return [
        InferenceClientModel("Qwen/Qwen2.5-Coder-32B-Instruct", base_url=url, token="key"),  # noqa: S106  # no secret
        openai,
        AnthropicModel("claude-sonnet-4-5", base_url=address, api_key="key", prices=Prices(input=3, output=15)),
        FallbackModel([OpenAIModel("broken", base_url=url, api_key="key", retry=Retry(attempts=1)), openai]),
    ]


def main() -> None:
    with local_web(services) as address:
        for model in models(address):
            result = CodeAgent([], model).run("What is 24 * 7?")
            print(f"{model.name}: {result.output}, {result.usage.total_tokens} tokens, {result.usage.cost_usd} dollars")


if __name__ == "__main__":
    main()
