"""Whether options are what they should be, said when the agent is made or a run is asked for, in words that say what to
write.

The rule: nothing here changes what is good. Text is never taken for a list: its letters are nobody's entries.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import cast

from ..runtime.errors import ConfigError
from .budget import Budget
from .compaction import Compaction
from .hooks import Hooks
from .messages import Image
from .prompts.templates import Prompts

_FORMS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "a text"),
    "description": (str, "a text"),
    "instructions": ((str, type(None)), "a text"),
    "prompts": ((Prompts, type(None)), 'Prompts, such as load_prompts("code_agent")'),
    "budget": ((Budget, type(None)), "a Budget, such as Budget(steps=10)"),
    "context_tokens": ((int, Compaction, type(None)), "a number of tokens or Compaction(context_tokens=...)"),
    "share": ((int, float), "a part above 0 and at most 1"),
    "answer_at_max_steps": (bool, "True or False"),
}
"""By option: what it may be an instance of, and in words."""


def check_kinds(options: Mapping[str, object]) -> None:
    """Whether each option that needs no other check is of its kind.

    Raises:
        ConfigError: one is not.
    """
    for name, value in options.items():
        kinds, form = _FORMS.get(name, (object, ""))
        if not isinstance(value, kinds) or (name == "context_tokens" and isinstance(value, bool)):
            raise ConfigError(f"{name} is {form}, not {value!r:.100}")
    approve, tracer = options.get("approve"), options.get("tracer")
    if approve is not None and not callable(approve):
        raise ConfigError(f"approve is a function of the request, not {approve!r:.100}")
    if tracer is not None and (isinstance(tracer, type) or not callable(getattr(tracer, "begin", None))):
        raise ConfigError(
            f"tracer is an object with begin(operation), such as OpenTelemetryTracer(), not {tracer!r:.100}"
        )


def check_flag(name: str, given: object) -> None:
    """Raises ConfigError if it is neither True nor False."""
    if not isinstance(given, bool):
        raise ConfigError(f"{name} is True or False, not {given!r:.100}")


def check_model(model: object) -> None:
    """
    Raises:
        ConfigError: it is nothing that has a `name` and `complete`.
    """
    if isinstance(model, str):
        raise ConfigError(f"model is an object, not a name; write OpenAIModel({model!r:.100}), or another model class")
    if isinstance(model, type):
        raise ConfigError(f"model is an object, not a class; write {model.__name__}(...)")
    if not isinstance(getattr(model, "name", None), str) or not callable(getattr(model, "complete", None)):
        order = "; the tools come first: (tools, model)" if isinstance(model, Iterable) else ""
        raise ConfigError(f"model is an object with `name` and `complete`, not {model!r:.100}{order}")


def checked_hooks(given: object) -> tuple[Hooks, ...]:
    """
    Raises:
        ConfigError: it is no list of `Hooks`.
    """
    for entry in (entries := several("hooks", given)):
        if isinstance(entry, type) and issubclass(entry, Hooks):
            raise ConfigError(f"hooks holds objects, not classes; write hooks=[{entry.__name__}()]")
        if not isinstance(entry, Hooks):
            raise ConfigError(f"hooks holds objects of subclasses of Hooks, not {entry!r:.100}")
    return cast("tuple[Hooks, ...]", entries)


def stop_sequences(given: object) -> tuple[str, ...]:
    """
    Raises:
        ConfigError: it is no list of texts that are not empty.
    """
    for entry in (entries := several("stop", given)):
        if not isinstance(entry, str) or not entry:
            raise ConfigError(f'stop holds texts that are not empty, not {entry!r:.100}; write stop=["..."]')
    return cast("tuple[str, ...]", entries)


def several(name: str, given: object) -> tuple[object, ...]:
    """The entries of an option that is a list.

    Raises:
        ConfigError: it cannot be gone through, or is a text.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} is a list, not {given!r:.100}; write {name}=[{_as_written(given)}]")
    return tuple(cast("Iterable[object]", given))


def _as_written(value: object) -> str:
    """How the caller may have written it."""
    if isinstance(value, str):
        return f"{value!r:.100}"
    known = getattr(cast("Callable[..., object]", value), "__name__", "")
    return known if isinstance(known, str) and known.isidentifier() else "..."


# --- of one run -------------------------------------------------------------------------------------------------------


def check_run(task: object, inputs: object, options: Mapping[str, object]) -> None:
    """Whether the arguments of a run are of their kinds.

    Raises:
        ConfigError: one is not.
    """
    if not isinstance(task, str):
        raise ConfigError(f"the task is a text, not {task!r:.100}")
    if inputs is not None and not isinstance(inputs, Mapping):
        raise ConfigError(f'inputs are values by name, not {inputs!r:.100}; write inputs={{"name": value}}')
    check_kinds({name: value for name, value in options.items() if name == "budget"})
    deadline_s = options.get("deadline_s")
    if deadline_s is not None and not (
        isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool) and deadline_s > 0
    ):
        raise ConfigError(f"deadline_s is a number of seconds above 0, not {deadline_s!r:.100}")


def checked_images(given: object) -> tuple[Image, ...]:
    """
    Raises:
        ConfigError: it is no list of `Image`s.
    """
    for image in (entries := several("images", given)):
        if not isinstance(image, Image):
            raise ConfigError(
                f'images holds Image(data, "image/png") with the bytes of a file, not {type(image).__name__}; '
                "a picture of PIL is saved to an io.BytesIO first"
            )
    return cast("tuple[Image, ...]", entries)


def check_input_names(names: Iterable[object], tools: Collection[str]) -> None:
    """Whether inputs may be variables of these names, beside tools of those.

    A name of Python's own, such as `id` or `type`, is hidden by an input as by any variable.

    Raises:
        ConfigError: one may not.
    """
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ConfigError(
                f"an input is a variable in the model's code, and {name!r:.100} is not the name of one; write letters, "
                'digits and "_", such as inputs={"order_id": ...}'
            )
        if name in tools or name == "tools":
            hint = "; rename the input" if name in ("final_answer", "tools") else "; rename the input or the tool"
            raise ConfigError(f"an input cannot be named {name!r}: a tool has that name{hint}")
        if name == "print" or name.startswith("__"):
            raise ConfigError(
                f"an input cannot be named {name!r}: it would hide what the model's code needs; rename it"
            )
