"""`railstream chat`: talk to the rails of a config, in this process or on a server.

From a pipe it reads one prompt per line and prints nothing but the answers: what is said of them goes to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from railstream.cli.chat_pace import Pace
from railstream.cli.chat_partner import Ended, InProcess, Messages, Partner, UsedCall
from railstream.cli.chat_server import Server
from railstream.cli.chat_waiting import Waiting
from railstream.display import with_progress
from railstream.errors import ConfigurationError, StreamingNotSupportedError

HELP = "/quit leaves, /reset forgets the conversation, Ctrl-C stops an answer"
FAILED = 1


def _option(variable: str, text: str, *names: str, metavar: str | None = None) -> Any:
    variable = f"RAILSTREAM_{variable}"
    return typer.Option(
        *names,
        envvar=variable,
        show_envvar=False,
        show_default=False,
        metavar=metavar,
        help=f"{text} [{variable}]",
    )


def chat(
    config: Annotated[
        Path | None, typer.Argument(help="A rails config, or a directory of them. [default: built-in]")
    ] = None,
    config_option: Annotated[
        Path | None, typer.Option("--config", "-c", help="The same as an option. [RAILSTREAM_CONFIG]")
    ] = None,
    streaming: Annotated[
        bool | None,
        _option(
            "STREAMING",
            "Show an answer while it is written. Default: yes, where the config allows it.",
            "--streaming/--no-streaming",
        ),
    ] = None,
    server_url: Annotated[str | None, _option("SERVER_URL", "Talk to a server, such as http://127.0.0.1:8000.")] = None,
    config_id: Annotated[str | None, _option("CONFIG_ID", "Which config of several, or of the server.")] = None,
    model: Annotated[str | None, _option("MODEL", "Which model of the config.")] = None,
    sentences: Annotated[bool, _option("SENTENCES", "Show whole sentences.", "--sentences/--no-sentences")] = False,
    buffer_size: Annotated[
        int, _option("BUFFER_SIZE", "Show so many at once.", "--buffer-size", metavar="CHARACTERS")
    ] = 0,
    buffer_time: Annotated[
        float, _option("BUFFER_TIME", "Show at once what came within this.", "--buffer-time", metavar="SECONDS")
    ] = 0,
    progress: Annotated[
        bool, _option("PROGRESS", "With --no-streaming: count what has come.", "--progress/--no-progress")
    ] = False,
    usage: Annotated[bool, _option("USAGE", "Print the tokens of each LLM call.", "--usage/--no-usage")] = False,
    output: Annotated[Path | None, _option("OUTPUT", "Also write the answers to a file.")] = None,
    api_key: Annotated[str | None, _option("API_KEY", "API key for the server.")] = None,
) -> None:
    """Chat with a config. Blocked text is shown as such; Ctrl-C stops an answer, not the program.

    An answer is shown while it is written, and how long it is waited for until then. --no-streaming shows it whole.

    \b
    Examples:
      railstream chat ./configs/support
      railstream chat --server-url http://127.0.0.1:8000 --config-id support --usage
      echo "Hello" | railstream chat ./configs/support --output answer.txt
    """
    if config is not None and config_option is not None:
        raise ConfigurationError("the config is given twice, as an argument and as --config")
    pace = Pace(buffer_size, buffer_time, sentences)
    partner: Partner
    if server_url:
        if config is not None or config_option is not None:
            raise ConfigurationError("--server-url takes no config directory; name one of its configs by --config-id")
        partner = Server(server_url, config_id, model, api_key)
    else:
        partner = InProcess(config or config_option or _from_environment(), config_id, model)
    with ExitStack() as stack:
        file = stack.enter_context(output.open("w", encoding="utf-8")) if output else None
        console = Console(highlight=False)
        talk = Talk(partner, console, file, streaming=streaming, usage=usage, pace=pace, progress=progress)
        raise typer.Exit(talk.run())


def _from_environment() -> Path | None:
    from railstream.settings import Settings, load

    return load(Settings).config


class Talk:
    """A conversation. Each answer runs in the event loop to its end, or until Ctrl-C."""

    def __init__(
        self,
        partner: Partner,
        console: Console,
        file: TextIO | None,
        *,
        streaming: bool | None,
        usage: bool,
        pace: Pace,
        progress: bool,
    ) -> None:
        """``streaming``: ``None`` for as long as the config streams."""
        self._pace = pace
        self._progress = progress
        self._ended = Ended()
        self._partner = partner
        self._console = console
        self._file = file
        self._streaming = streaming is not False
        self._may_change = streaming is None
        self._usage = usage
        self._messages: list[dict[str, Any]] = []
        self._interactive = sys.stdin.isatty()
        self._notes = console if self._interactive else Console(highlight=False, stderr=True)
        self._failed = False

    def run(self) -> int:
        """Until there is nothing more to read. Returns 1 when an answer failed that nobody saw fail."""
        if self._interactive:
            with suppress(ImportError):
                import_module("readline")
            self._console.print(f"[bold]{escape(self._partner.name)}[/bold]  [dim]{HELP}[/dim]")
        with asyncio.Runner() as runner:
            try:
                while self._step(runner):
                    pass
            finally:
                runner.run(self._partner.aclose())
        return FAILED if self._failed and not self._interactive else 0

    def _step(self, runner: asyncio.Runner) -> bool:
        """One line. Whether there may be another."""
        try:
            line = input("\n> " if self._interactive else "").strip()
            if line.startswith("/"):
                return self._obey(line)
            if line:
                self._ask(runner, line)
        except EOFError:
            return False
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            self._notes.print(f"\n[dim]{HELP}[/dim]")
        return True

    def _obey(self, line: str) -> bool:
        """Whether to go on."""
        match line:
            case "/quit" | "/exit" | "/q":
                return False
            case "/reset":
                self._messages.clear()
                self._notes.print("[dim]forgotten[/dim]")
            case _:
                self._notes.print(f"[dim]{HELP}[/dim]")
        return True

    def _ask(self, runner: asyncio.Runner, line: str) -> None:
        question, said = {"role": "user", "content": line}, list[str]()
        try:
            ended = runner.run(self._answer([*self._messages, question], said))
        except KeyboardInterrupt:
            self._notes.print("\n[yellow]stopped[/yellow]")
            ended = Ended()
        self._failed |= ended.status == "failed"
        text = ended.refusal if ended.status == "blocked" and ended.refusal else "".join(said)
        if text and ended.status != "failed":  # a question without its answer would confuse the next one
            self._messages += [question, {"role": "assistant", "content": text}]

    async def _answer(self, messages: Messages, said: list[str]) -> Ended:
        try:
            return await self._show_answer(messages, said)
        except StreamingNotSupportedError:
            if not self._may_change:
                raise
            self._may_change = self._streaming = False
            return await self._show_answer(messages, said)

    async def _show_answer(self, messages: Messages, said: list[str]) -> Ended:
        texts = self._texts(messages, said)
        waiting = Waiting(self._notes)
        async with waiting:
            if self._streaming:
                async with aclosing(self._pace.of(texts)) as shown:
                    async for text in shown:
                        waiting.end()
                        self._say(text)
            else:
                async with aclosing(with_progress(texts, self._counter(waiting))) as counted:
                    async for _ in counted:
                        pass
        ended = self._ended
        if not self._streaming and ended.status != "blocked":
            self._say("".join(said))
        self._end(ended, anything=bool(said))
        if self._usage:
            self._show(await self._partner.calls())
        return ended

    async def _texts(self, messages: Messages, said: list[str]) -> AsyncGenerator[str, None]:
        """What is said, kept in ``said`` as it comes; how it ended is kept as well."""
        self._ended = Ended()
        async with aclosing(self._partner.answer(messages, streaming=self._streaming or self._progress)) as answer:
            async for element in answer:
                if isinstance(element, Ended):
                    self._ended = element
                    continue
                said.append(element)
                yield element

    def _counter(self, waiting: Waiting) -> Callable[[int], None]:
        """While an answer comes that is shown as a whole: how much there is of it."""
        return (lambda count: waiting.show(f"{count} pieces")) if self._progress else (lambda _: None)

    def _say(self, text: str) -> None:
        self._console.out(text, end="", highlight=False)
        self._console.file.flush()
        if self._file is not None:
            self._file.write(text)
            self._file.flush()

    def _end(self, ended: Ended, *, anything: bool) -> None:
        if ended.refusal:
            self._say(f"\n{ended.refusal}" if anything and self._streaming else ended.refusal)
        if anything or ended.refusal:
            self._say("\n")
        if ended.status == "blocked":
            self._notes.print(f"[red]blocked:[/red] {escape(ended.note)}", soft_wrap=True)
        elif ended.status == "failed":
            self._notes.print(f"[red]failed:[/red] {escape(ended.note)}", soft_wrap=True)

    def _show(self, calls: Sequence[UsedCall]) -> None:
        for call in calls:
            tokens = (
                "no token count" if call.input_tokens is None else f"{call.input_tokens} in, {call.output_tokens} out"
            )
            self._notes.print(f"[dim]{escape(call.task)} {escape(call.model)}: {tokens}, {call.seconds:.2f} s[/dim]")
