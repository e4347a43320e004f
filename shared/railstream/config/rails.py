"""`rails`: which flows run on input and output, and how the output is checked while it streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from railstream.config.base import Seconds, Section, unsupported
from railstream.config.detection import Detection
from railstream.config.flows import Flow

NO_RETRIEVAL = "there is no retrieval step; give what was retrieved in the request's messages"
NO_DIALOG = "dialog rails are Colang; write a rail as a Python action and name it in `flows`"


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Channel = Literal["content", "reasoning", "refusal", "tools"]
"""A kind of text that a model sends: its answer, its reasoning, a refusal, or the calls of tools it wants."""


class InputRails(Section):
    flows: tuple[Flow, ...] = ()
    parallel: bool = False
    trusted_roles: tuple[Role, ...] = ("system", "developer")
    """Roles whose messages judging rails do not read: an application's own prompt is not a user's message. Patterns,
    terms, detectors and masks read every message, whatever its role."""
    speculative_generation: bool = False
    """Generate while the input rails still run; nothing is released before they have passed."""


class OutputStreaming(Section):
    """How window rails check a text that is still being written. Sizes in deltas, as the model sends them.

    Incremental rails need none of this: they hold back only what could still become a hit.
    """

    enabled: bool = False
    chunk_size: Annotated[int, Field(ge=1)] = 200
    """New deltas per check with ``documented``; deltas per check with ``rolling``."""
    context_size: Annotated[int, Field(ge=0)] = 50
    """Deltas before the new ones that each check sees again."""
    stream_first: bool = False
    """Release a chunk before it is checked. NeMo Guardrails' default is True; ours never shows unchecked text."""
    strategy: Literal["documented", "rolling"] = "documented"
    """``documented``: context_size deltas of context and chunk_size new ones, as NeMo's manual says. ``rolling``:
    chunk_size deltas that move on by chunk_size - context_size, as NeMo 0.24 does."""
    max_concurrent_checks: Annotated[int, Field(ge=1)] = 4
    """Checks of one text under way at once; what is released stays in order."""
    first_chunk_size: Annotated[int, Field(ge=1)] | None = None
    """Deltas of the first check, so that the first words arrive early. Not given: chunk_size."""
    chunk_growth: Annotated[float, Field(gt=1)] = 2.0
    """From the first chunk on, each is this many times the one before, up to chunk_size."""
    check_timeout: Seconds = 30
    """A check that takes longer blocks the text."""

    @model_validator(mode="after")
    def _first_is_smaller(self) -> OutputStreaming:
        if self.first_chunk_size is not None and self.first_chunk_size > self.chunk_size:
            raise ValueError(f"first_chunk_size {self.first_chunk_size} is over chunk_size {self.chunk_size}")
        if self.strategy == "rolling" and self.first_chunk_size is not None:
            raise ValueError("first_chunk_size is of the strategy 'documented'; 'rolling' has chunks of one size")
        return self


class OutputRails(Section):
    flows: tuple[Flow, ...] = ()
    parallel: bool = False
    streaming: OutputStreaming = OutputStreaming()
    channels: Mapping[str, tuple[Channel, ...]] = {}
    """Which kinds of text a judging rail reads, by its flow. Not given: all four, or the content alone where it
    compares whole answers (facts, hallucination). Patterns, terms, detectors and masks always read all four."""
    unread_channels: Literal["drop", "pass"] = "drop"
    """What happens to a kind of text that no rail of the config reads: it is left out of the answer, or passed."""
    alternatives: Literal["drop", "read"] = "drop"
    """What happens to ``top_logprobs`` on a guarded answer: left out, or passed where the local rails let each one
    pass."""

    @model_validator(mode="after")
    def _channels_of_known_flows(self) -> OutputRails:
        for name, channels in self.channels.items():
            flow = next((flow for flow in self.flows if name in (flow.text, flow.name)), None)
            if flow is None:
                raise ValueError(f"channels: {name!r} is not one of `flows`")
            if flow.built_in is not None and flow.built_in.kind == "incremental":
                raise ValueError(f"channels: {name!r} reads every kind of text; only judging rails can be narrowed")
            if not channels:
                raise ValueError(f"channels: {name!r} needs at least one of content, reasoning, refusal, tools")
        return self

    def channels_of(self, flow: Flow) -> tuple[Channel, ...]:
        """The kinds of text that this flow reads."""
        named = self.channels.get(flow.text, self.channels.get(flow.name))
        if named is not None:
            return named
        compares = flow.built_in is not None and flow.built_in.kind == "whole"
        return ("content",) if compares else get_args(Channel)


class RetrievalRails(Section):
    refused: ClassVar[Mapping[str, str]] = {"flows": NO_RETRIEVAL}


class ToolRails(Section):
    """Rails of tool calls (``tool_output``) or of tool results (``tool_input``) alone. Output rails read calls as well,
    and input rails read results."""

    flows: tuple[Flow, ...] = ()
    parallel: bool = False


class ActionRails(Section):
    refused: ClassVar[Mapping[str, str]] = {"instant_actions": NO_DIALOG}


class SingleCall(Section):
    enabled: Annotated[bool, unsupported(NO_DIALOG)] = False
    fallback_to_multiple_calls: bool = True


class UserMessages(Section):
    embeddings_only: Annotated[bool, unsupported(NO_DIALOG)] = False
    embeddings_only_similarity_threshold: float | None = None
    embeddings_only_fallback_intent: str | None = None


class DialogRails(Section):
    single_call: SingleCall = SingleCall()
    user_messages: UserMessages = UserMessages()


class Rails(Section):
    config: Detection = Detection()
    input: InputRails = InputRails()
    output: OutputRails = OutputRails()
    retrieval: RetrievalRails = RetrievalRails()
    dialog: DialogRails = DialogRails()
    actions: ActionRails = ActionRails()
    tool_input: ToolRails = ToolRails()
    tool_output: ToolRails = ToolRails()
