"""`TransformersModel` on a tiny model with random weights, made here; in `make test-all`, if the extra is there."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from cloche.agents.errors import ModelRefused, ModelUnsupported
from cloche.agents.messages import Image, Message, ModelReply, ResponseFormat, ToolCallRequest, ToolSchema
from cloche.agents.models.prices import Prices
from cloche.agents.models.transformers import TransformersModel
from cloche.runtime.errors import ConfigError

TASK = Message("user", "Hi")
WORDS = [f"w{i}" for i in range(60)]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}assistant{% endif %}"
)
BOUND_S = 60.0
missing = importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None


def with_transformers(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that needs the real thing."""
    marks = [
        pytest.mark.exhaustive,
        pytest.mark.skipif(missing, reason="the extra `transformers` is not installed"),
        pytest.mark.filterwarnings("ignore"),  # it warns about much that is not ours
    ]
    for mark in marks:
        test = mark(test)
    return test


def ask(model: TransformersModel, *messages: Message, **asked: object) -> ModelReply:
    async def main() -> ModelReply:
        with anyio.fail_after(BOUND_S):
            return await model.complete(messages or [TASK], **asked)  # type: ignore[arg-type]

    return anyio.run(main)


def tiny() -> tuple[Any, Any]:
    """A model of two layers whose words are w0, w1 ..., and its tokenizer."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    tokenizers = importlib.import_module("tokenizers")
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<eos>", "user", "assistant", "Hi", *WORDS])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<eos>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=1,
    )
    return transformers.LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any]:
    return tiny()


def model_of(made: tuple[Any, Any], **options: object) -> TransformersModel:
    return TransformersModel(made[0], tokenizer=made[1], **options)  # type: ignore[arg-type]


# --- what it refuses; needs no transformers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "asked", "told"),
    [
        ([TASK], {"tools": [ToolSchema("f", "", {})]}, "use CodeAgent"),
        ([Message("assistant", "", tool_calls=(ToolCallRequest("a", "f"),))], {}, "use CodeAgent"),
        ([TASK], {"response_format": ResponseFormat()}, "use OpenAIModel"),
        ([Message("user", "x", images=(Image(b"x"),))], {}, "use OpenAIModel"),
    ],
)
def test_what_it_cannot_do_it_refuses_and_names_what_can(
    messages: list[Message], asked: dict[str, object], told: str
) -> None:
    with pytest.raises(ModelUnsupported, match=told):
        ask(TransformersModel("some/model"), *messages, **asked)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install .*\[transformers\]'"):
        ask(TransformersModel("some/model"))


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"temperature": -1},
        {"load": {"trust_remote_code": True}},
        {"load": {"use_safetensors": False}},
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TransformersModel("some/model", **options)  # type: ignore[arg-type]


def test_a_model_object_needs_its_tokenizer() -> None:
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        TransformersModel(object())


# --- with a model -----------------------------------------------------------------------------------------------------


@with_transformers
def test_a_reply_gives_text_tokens_and_cost(made: tuple[Any, Any]) -> None:
    found = ask(model_of(made, max_tokens=5, prices=Prices(input=1, output=1)))
    assert len(found.text.split()) <= 5
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens, found.finish_reason) == (3, 5, "length")
    assert found.usage.cost_usd == pytest.approx(8e-6)


@with_transformers
def test_text_is_given_out_as_it_comes(made: tuple[Any, Any]) -> None:
    pieces: list[str] = []
    found = ask(model_of(made), on_text=pieces.append, max_tokens=8)
    assert "".join(pieces) == found.text
    assert len(pieces) > 1


@with_transformers
def test_a_stop_sequence_ends_the_reply_and_is_not_given_out(made: tuple[Any, Any]) -> None:
    whole = ask(model_of(made), max_tokens=12).text
    word = whole.split()[4]
    pieces: list[str] = []
    found = ask(model_of(made), stop=[f" {word}"], on_text=pieces.append, max_tokens=12)
    assert found.text == whole[: whole.index(f" {word}")]
    assert ("".join(pieces), found.finish_reason) == (found.text, "stop")


@with_transformers
def test_cancelling_ends_the_generation_and_the_model_serves_on(made: tuple[Any, Any]) -> None:
    model = model_of(made, max_tokens=3000)

    async def main() -> ModelReply:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:

                async def endless() -> None:
                    await model.complete([TASK], on_text=lambda text: tasks.cancel_scope.cancel())

                tasks.start_soon(endless)
            return await model.complete([TASK], max_tokens=2)

    assert anyio.run(main).usage is not None


@with_transformers
def test_a_model_is_loaded_from_a_folder(made: tuple[Any, Any], tmp_path: Path) -> None:
    for part in made:
        part.save_pretrained(tmp_path)
    model = TransformersModel(str(tmp_path), max_tokens=4)
    assert ask(model).text == ask(model_of(made, max_tokens=4)).text


@with_transformers
def test_weights_that_are_a_pickle_are_refused(made: tuple[Any, Any], tmp_path: Path) -> None:
    for part in made:
        part.save_pretrained(tmp_path)
    torch = importlib.import_module("torch")
    (tmp_path / "model.safetensors").unlink()
    torch.save(made[0].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ask(TransformersModel(str(tmp_path)))


@with_transformers
def test_a_template_that_refuses_a_conversation_is_told(made: tuple[Any, Any]) -> None:
    tokenizer = tiny()[1]
    tokenizer.chat_template = "{{ raise_exception('no system messages') }}"
    with pytest.raises(ModelRefused, match="no system messages"):
        ask(TransformersModel(made[0], tokenizer=tokenizer))
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        ask(TransformersModel(made[0], tokenizer=tokenizer))
