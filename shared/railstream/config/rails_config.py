"""A rails config: which models serve, which rails guard them, and how, as NeMo Guardrails writes it.

What a `RailsConfig` holds has been checked: a wrong key, pattern, prompt or model name is a `ConfigurationError`
that names the file and the path in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from railstream.config import agreement, combining, digests, requirements, strictness
from railstream.config.base import Location, Misplaced, Section, nearest, unsupported
from railstream.config.flows import REFUSE, UNKNOWN_ANSWER, Flow
from railstream.config.models import Model
from railstream.config.prompts import Prompt, choose
from railstream.config.rails import Rails
from railstream.config.serving import Deadlines, Metrics, OnWorkerLoss, Serving, Tracing
from railstream.config.sources import NO_COLANG, NO_KNOWLEDGE_BASE, Sources, parse, read_path
from railstream.errors import ConfigurationError

INSTRUCTION: Final = (
    "Below is a conversation between a helpful AI assistant and a user. The bot is designed to generate human-like "
    "text based on the input that it receives. The bot is talkative and provides lots of specific details. If the bot "
    "does not know the answer to a question, it truthfully says it does not know."
)
BOT_MESSAGES: Final[Mapping[str, str]] = {
    REFUSE: "I'm sorry, I can't respond to that.",
    UNKNOWN_ANSWER: "I don't know the answer to that.",
}


class Instruction(Section):
    type: str
    content: str


class RailsConfig(Section):
    """One config, or several combined. Build it with `from_path` or `from_content`."""

    models: tuple[Model, ...] = ()
    instructions: tuple[Instruction, ...] = (Instruction(type="general", content=INSTRUCTION),)
    sample_conversation: str = ""
    rails: Rails = Rails()
    prompts: tuple[Prompt, ...] = ()
    prompting_mode: str = "standard"
    lowest_temperature: float = 0.001
    """Temperature of the questions that rails ask."""
    passthrough: bool | None = None
    enable_rails_exceptions: bool = False
    bot_messages: Mapping[str, tuple[str, ...]] = {}
    """What is said instead of a blocked text: ``refuse to respond`` and ``inform answer unknown``."""
    streaming: bool = False
    """Deprecated, no effect: every config streams."""
    colang_version: str = "1.0"
    custom_data: Mapping[str, Any] = {}
    """For your own actions."""
    enable_multi_step_generation: Annotated[bool, unsupported(NO_COLANG)] = False
    tracing: Tracing = Tracing()
    metrics: Metrics = Metrics()
    railstream: Serving = Serving()

    refused: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("flows", "user_messages", "raw_llm_call_action", "event_source_uid"), NO_COLANG),
        **dict.fromkeys(("knowledge_base", "docs", "core", "embedding_search_provider"), NO_KNOWLEDGE_BASE),
        "import_paths": "put the files into the config's directory, or combine configs by their ids",
        "actions_server_url": "actions run in the worker, from `actions.py` beside the config",
        "sensitive_data_detection": "it stands under `rails.config`",
    }

    _id: str = PrivateAttr(default="")
    _directories: tuple[Path, ...] = PrivateAttr(default=())
    _sources: Sources = PrivateAttr(default_factory=Sources)
    _digest: str = PrivateAttr(default="")

    @field_validator("colang_version")
    @classmethod
    def _no_colang_2(cls, value: str) -> str:
        if value != "1.0":
            raise ValueError(f"{value!r}: {NO_COLANG}")
        return value

    @field_validator("bot_messages")
    @classmethod
    def _known_messages(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        unknown = [key for key in value if key not in BOT_MESSAGES]
        if unknown:
            raise Misplaced([((key,), f"is never said here{nearest(key, BOT_MESSAGES)}") for key in unknown])
        return value

    @model_validator(mode="after")
    def _serves(self) -> RailsConfig:
        found = list(requirements.problems(self))
        if found:
            raise Misplaced(found)
        return self

    @classmethod
    def from_path(cls, config_path: str | os.PathLike[str], *, require_keys: bool = True) -> RailsConfig:
        """The config of a directory or a YAML file.

        Args:
            require_keys: Whether a model's ``api_key_env_var`` must be set here; who never calls a model says no.

        Raises:
            ConfigurationError: something is wrong with it; the message has a line for each problem.
        """
        path = Path(config_path)
        config = cls._from(read_path(path), require_keys)
        directory = path if path.is_dir() else path.parent
        config._id = path.resolve().name if path.is_dir() else path.stem
        config._directories = (directory,)
        config._note_digest()
        return config

    @classmethod
    def from_content(
        cls,
        colang_content: str | None = None,
        yaml_content: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> RailsConfig:
        """A config of a dict, and of YAML text that is laid over it. Colang is refused."""
        if colang_content and colang_content.strip():
            raise ConfigurationError(f"colang_content: {NO_COLANG}")
        sources = Sources()
        sources.add("config", config)
        if yaml_content:
            sources.add("yaml_content", parse(yaml_content, "yaml_content"))
        return cls._from(sources)

    @classmethod
    def _from(cls, sources: Sources, require_keys: bool = True) -> RailsConfig:
        try:
            config = cls.model_validate(sources.content, context={"require_keys": require_keys})
        except ValidationError as error:
            lines = dict.fromkeys(f"{sources.place(location)}: {message}" for location, message in _flatten(error))
            raise ConfigurationError("\n".join(lines)) from error
        config._sources = sources
        config._note_digest()
        return config

    def _note_digest(self) -> None:
        """Now, not when it is asked for: files beside the config may change while the process runs what it has read."""
        self._digest = digests.digest_of(self.model_dump(mode="json"), self._directories)

    @property
    def id(self) -> str:
        """Folder name; ids of combined configs with commas between; empty for `from_content`."""
        return self._id

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides what this config does: its keys, and the files beside it. Where it lies, its id
        and the values of environment variables are no part of it."""
        return self._digest

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where `actions.py` may be: a directory for each config that was combined."""
        return self._directories

    @property
    def directory(self) -> Path | None:
        return self._directories[0] if self._directories else None

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The rails of every stage."""
        rails = self.rails
        return (*rails.input.flows, *rails.output.flows, *rails.tool_input.flows, *rails.tool_output.flows)

    @property
    def main_models(self) -> tuple[Model, ...]:
        """The models that this config serves."""
        return tuple(model for model in self.models if model.type == "main")

    def model_of(self, kind: str) -> Model | None:
        """The first model of a type."""
        return next((model for model in self.models if model.type == kind), None)

    def model_named(self, name: str) -> Model | None:
        """The model of that name; one that is served, if there is one."""
        found = [model for model in self.models if model.model == name]
        return next((model for model in found if model.type == "main"), found[0] if found else None)

    def deadlines_of(self, model: Model) -> Deadlines:
        """A model's own timeouts, and the config's where it has none."""
        own, general = model.railstream, self.railstream.deadlines
        return Deadlines(
            connect=own.connect_timeout or model.parameters.get("connect_timeout") or general.connect,
            first_token=own.first_token_timeout or general.first_token,
            between_chunks=own.chunk_timeout or model.parameters.get("timeout") or general.between_chunks,
            total=own.total_timeout or general.total,
        )

    def on_worker_loss_of(self, name: str) -> OnWorkerLoss:
        """What becomes of a begun answer of the main model of that name, or of the first one."""
        served = next((model for model in self.main_models if model.model == name or not name), None)
        own = served.railstream.on_worker_loss if served is not None else None
        how = own or self.railstream.on_worker_loss
        if how == "continue" and served is not None and served.wire == "responses":
            how = "fail"  # said of all models of the config, of which this one cannot
        return how or ("continue" if served is not None and served.continues else "fail")

    def model_for(self, task: str) -> Model | None:
        """The model that answers a rail's task: of the type that ``$model=`` or ``$variant=`` names, of the type that
        the task or its rail is called, else the first main model."""
        name, _, argument = task.partition(" $")
        kinds = (argument.partition("=")[2], task, name, name.partition("_check")[0], "main")
        return next((model for kind in kinds if (model := self.model_of(kind)) is not None), None)

    def prompt_task_of(self, flow: Flow) -> str | None:
        """The task of the prompt that a flow uses. A ``$variant=x`` may also stand under the bare task ``x``."""
        tasks = {prompt.task for prompt in self.prompts}
        names = (flow.prompt_task, flow.arguments.get("variant"))
        return next((name for name in names if name in tasks), None)

    def prompt_of(self, task: str) -> Prompt:
        """The prompt that fits a task and its model best."""
        model = self.model_for(task)
        name = f"{model.engine}/{model.model}" if model else "unknown"
        prompt = choose(self.prompts, task, name, self.prompting_mode)
        if prompt is None:
            raise ConfigurationError(f"there is no prompt for the task {task!r} that fits the model {name!r}")
        return prompt

    @property
    def general_instructions(self) -> str:
        return next((item.content for item in self.instructions if item.type == "general"), "")

    def refusal(self, flow: Flow | None = None) -> str:
        """What is said instead of a text that ``flow`` blocked."""
        built_in = flow.built_in if flow is not None else None
        key = built_in.refusal if built_in else REFUSE
        return (self.bot_messages.get(key) or (BOT_MESSAGES[key],))[0]

    def combined_with(self, other: RailsConfig) -> RailsConfig:
        """Both as one: ``other`` takes precedence in what it sets, but never over a stricter rail.

        Raises:
            ConfigurationError: they name different models of one type, different prompts of one task or different
                actions of one name, a rail would go by another prompt, model, action or rule than in its own config,
                or they do not fit together otherwise.
        """
        sources = combining.combine(self._sources, other._sources)
        config = RailsConfig._from(sources, require_keys=False)
        overruled = list(strictness.stricter(self, other, config))
        for path, value in overruled:
            combining.set_at(sources.content, path, plain(value))
        if overruled:
            config = RailsConfig._from(sources, require_keys=False)
        config._id = ",".join(filter(None, (self.id, other.id)))
        config._directories = tuple(dict.fromkeys((*self._directories, *other._directories)))
        digests.check_actions(config._directories)
        for part in (self, other):
            agreement.check_agreement(part, config)
        config._note_digest()
        return config

    def __add__(self, other: RailsConfig) -> RailsConfig:
        return self.combined_with(other)


def _flatten(error: ValidationError) -> Iterator[tuple[Location, str]]:
    """Each problem of a validation, with its whole location."""
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Misplaced):
            for location, message in cause.problems:
                yield (*detail["loc"], *location), message
        else:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            yield detail["loc"], message + (f"; got {detail['input']!r}" if _may_be_shown(detail) else "")


def _may_be_shown(detail: ErrorDetails) -> bool:
    """Whether a wrong value can be quoted: it is no text that may be a key in the wrong place."""
    return isinstance(detail["input"], bool | int | float) or detail["type"] == "literal_error"


def plain(value: Any) -> Any:
    """A value as YAML would have it."""
    return [plain(item) for item in value] if isinstance(value, tuple) else value
