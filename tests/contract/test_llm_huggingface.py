"""A `transformers` pipeline as a model: a tiny one with random weights, made here, whose answers the test can know."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from contract.llm_rig import listen
from harness.stack import Stack
from railstream import AsyncTextIteratorStreamer, HuggingFacePipelineCompatible, LLMRails, RailsConfig
from railstream.errors import ConfigurationError
from railstream_engine.models import build
from railstream_engine.providers.endpoint import Patience
from railstream_engine.providers.huggingface.model import HuggingFaceModel
from railstream_engine.providers.port import Call

torch = pytest.importorskip("torch", reason="the extra `huggingface` is not installed: no torch")
transformers = pytest.importorskip("transformers", reason="the extra `huggingface` is not installed: no transformers")
tokenizers = pytest.importorskip("tokenizers")

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own deprecations are not ours
WORDS = [f"w{number}" for number in range(60)]
Pipeline = Any


def tiny(directory: Path) -> Path:
    """A GPT-2 of two layers that knows sixty words, saved as a repository has it."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<end>", *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )
    torch.manual_seed(7)
    size = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 256}
    ends = {"eos_token_id": 2, "bos_token_id": 2, "pad_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=len(vocabulary), **size, **ends))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture
def pipeline(repository: Path) -> Pipeline:
    return transformers.pipeline("text-generation", model=str(repository))


def asked(**params: Any) -> Call:
    return Call("tiny", [{"role": "user", "content": "w1 w2 w3"}], {"temperature": 0, **params})


def whole(pipeline: Pipeline, count: int) -> str:
    """What the model says, without any streaming."""
    tokens = pipeline.tokenizer("w1 w2 w3", return_tensors="pt")
    said = pipeline.model.generate(**tokens, max_new_tokens=count, do_sample=False)
    text: str = pipeline.tokenizer.decode(said[0, 3:], skip_special_tokens=True)
    return text


async def test_an_answer_is_what_the_model_says_with_real_counts(pipeline: Pipeline) -> None:
    model = HuggingFaceModel("tiny", lambda: pipeline)
    heard = await listen(model, asked(max_tokens=12))
    assert heard.error is None
    assert heard.text == whole(pipeline, 12)
    assert len(heard.deltas) > 3
    assert [finish.reason for finish in heard.finishes] == ["length"]
    assert (heard.tokens[-1].input_tokens, heard.tokens[-1].output_tokens) == (3, 12)
    await model.aclose()


async def test_an_answer_that_ends_by_itself_stops(pipeline: Pipeline) -> None:
    last = pipeline.tokenizer.convert_tokens_to_ids(whole(pipeline, 6).split()[0])
    pipeline.model.generation_config.eos_token_id = last
    model = HuggingFaceModel("tiny", lambda: pipeline)
    heard = await listen(model, asked(max_tokens=50))
    assert [finish.reason for finish in heard.finishes] == ["stop"]
    assert heard.tokens[-1].output_tokens == 1
    await model.aclose()


async def test_a_stop_string_ends_the_answer_before_it_however_it_is_split(pipeline: Pipeline) -> None:
    model = HuggingFaceModel("tiny", lambda: pipeline)
    text = whole(pipeline, 40)
    stop = text[len(text) // 2 - 4 : len(text) // 2 + 4]
    heard = await listen(model, asked(max_tokens=40, stop=[stop]))
    assert heard.text == text[: text.index(stop)]
    assert [finish.reason for finish in heard.finishes] == ["stop"]
    await model.aclose()


class Steps:
    """Of a generation: how many there were."""

    def __init__(self) -> None:
        self.count = 0
        self.third = threading.Event()

    def take(self) -> None:
        self.count += 1
        if self.count == 3:
            self.third.set()


def slowed(pipeline: Pipeline, seconds: float = 0.02) -> Steps:
    """Each step takes a while, and is counted."""
    forward, steps, pause = pipeline.model.forward, Steps(), threading.Event()

    def slow(*args: Any, **given: Any) -> Any:
        steps.take()
        pause.wait(seconds)
        return forward(*args, **given)

    pipeline.model.forward = slow
    return steps


async def idle(model: HuggingFaceModel) -> None:
    """The model's thread has nothing to do any more."""
    await asyncio.get_running_loop().run_in_executor(model._thread, lambda: None)


async def test_leaving_early_stops_the_generation_within_a_token(pipeline: Pipeline) -> None:
    steps = slowed(pipeline)
    model = HuggingFaceModel("tiny", lambda: pipeline)
    heard = await listen(model, asked(max_tokens=200), stop_after=3)
    left = steps.count
    await idle(model)
    assert steps.count <= left + 1
    assert heard.tokens[-1].output_tokens >= 3
    await model.aclose()


async def test_cancelling_the_reader_stops_the_generation(pipeline: Pipeline) -> None:
    steps = slowed(pipeline)
    model = HuggingFaceModel("tiny", lambda: pipeline)
    reading = asyncio.ensure_future(listen(model, asked(max_tokens=200)))
    await asyncio.get_running_loop().run_in_executor(None, steps.third.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    left = steps.count
    await idle(model)
    assert steps.count <= left + 1
    await model.aclose()


async def test_an_exception_in_generate_surfaces_as_it_is_after_the_text_before_it(pipeline: Pipeline) -> None:
    forward, steps = pipeline.model.forward, list[int]()

    def failing(*args: Any, **given: Any) -> Any:
        steps.append(1)
        if len(steps) > 4:
            raise RuntimeError("the device is on fire")
        return forward(*args, **given)

    pipeline.model.forward = failing
    model = HuggingFaceModel("tiny", lambda: pipeline)
    async with asyncio.timeout(10):
        heard = await listen(model, asked(max_tokens=50))
    assert heard.text
    assert heard.failed.partial == heard.text
    assert (heard.failed.code, heard.failed.provider_code) == ("provider", "RuntimeError")
    assert "the device is on fire" in heard.failed.message
    await model.aclose()


async def test_one_answer_is_generated_at_a_time_in_the_order_of_asking(pipeline: Pipeline) -> None:
    slowed(pipeline, 0.005)
    model, order = HuggingFaceModel("tiny", lambda: pipeline), list[int]()

    async def ask(number: int) -> str:
        heard = await listen(model, asked(max_tokens=15))
        order.append(number)
        return heard.text

    texts = await asyncio.gather(*(ask(number) for number in range(4)))
    assert order == [0, 1, 2, 3]
    assert len(set(texts)) == 1
    await model.aclose()


async def test_silence_is_a_timeout_that_says_which(pipeline: Pipeline) -> None:
    slowed(pipeline, 0.6)
    model = HuggingFaceModel("tiny", lambda: pipeline, patience=Patience(first_token=0.2))
    heard = await listen(model, asked(max_tokens=5))
    assert (heard.failed.code, heard.failed.param) == ("timeout", "first_token_timeout")
    await model.aclose()


async def test_a_prompt_that_is_too_long_is_told_so(pipeline: Pipeline) -> None:
    model = HuggingFaceModel("tiny", lambda: pipeline)
    heard = await listen(model, Call("tiny", [{"role": "user", "content": "w1 " * 300}]))
    assert heard.failed.code == "context_too_long"
    await model.aclose()


async def test_an_option_that_means_nothing_here_is_refused_by_its_name(pipeline: Pipeline) -> None:
    model = HuggingFaceModel("tiny", lambda: pipeline)
    heard = await listen(model, asked(logit_bias={"1": 2}))
    assert (heard.failed.code, heard.failed.param) == ("invalid_request", "logit_bias")
    await model.aclose()


async def test_the_streamer_of_the_seeds_ends_with_its_last_text_said_once(pipeline: Pipeline) -> None:
    streamer = AsyncTextIteratorStreamer(pipeline.tokenizer, skip_prompt=True)
    for _ in range(2):
        made = asyncio.get_running_loop().run_in_executor(
            None, lambda: pipeline("w1 w2 w3", streamer=streamer, max_new_tokens=9, do_sample=False)
        )
        async with asyncio.timeout(10):
            texts = [text async for text in streamer]
        await made
        assert "".join(texts) == whole(pipeline, 9)


def test_the_streamer_can_be_made_before_any_loop_runs(pipeline: Pipeline) -> None:
    streamer = AsyncTextIteratorStreamer(pipeline.tokenizer, skip_prompt=True)
    pipeline("w1 w2 w3", streamer=streamer, max_new_tokens=9, do_sample=False)

    async def read() -> str:
        return "".join([text async for text in streamer])

    assert asyncio.run(read()) == whole(pipeline, 9)


async def test_a_pipeline_is_the_model_of_a_programs_rails_as_in_the_seeds(pipeline: Pipeline) -> None:
    streamer = AsyncTextIteratorStreamer(pipeline.tokenizer, skip_prompt=True)
    params = {"temperature": 0, "max_new_tokens": 20, "streamer": streamer}
    llm = HuggingFacePipelineCompatible(pipeline=pipeline, model_kwargs=params)
    said = whole(pipeline, 20)
    banned = said.split()[8]
    config = RailsConfig.from_content(
        config={
            "rails": {
                "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
                "config": {"regex_detection": {"output": {"patterns": [rf"\b{banned}\b"]}}},
            }
        }
    )
    rails = LLMRails(config, llm=llm)
    messages = [{"role": "user", "content": "w1 w2 w3"}]
    texts = [text async for text in rails.stream_async(messages=messages)]
    assert '"type": "guardrails_violation"' in texts[-1].replace('":"', '": "')
    assert banned not in "".join(texts[:-1]).split()
    free = LLMRails(RailsConfig.from_content(config={}), llm=llm)
    assert "".join([text async for text in free.stream_async(messages=messages)]) == said
    await llm.aclose()


StartStack = Callable[..., Awaitable[Stack]]


async def test_it_streams_through_a_worker_with_rails_and_its_usage(
    start_stack: StartStack, repository: Path, pipeline: Pipeline
) -> None:
    entry = {"type": "main", "engine": "huggingface", "model": str(repository)}
    rails = {
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
        "config": {"regex_detection": {"output": {"patterns": ["never said"]}}},
    }
    nowhere = {"base_url": None, "api_key": None}  # the stack gives models the upstream's otherwise
    stack = await start_stack(configs={"main": {"models": [{**entry, "parameters": nowhere}], "rails": rails}})
    async with stack.client(timeout=90) as client:
        stream = await client.chat.completions.create(
            model=str(repository),
            messages=[{"role": "user", "content": "w1 w2 w3"}],
            temperature=0,
            max_tokens=15,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole(pipeline, 15)
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 15)


def test_a_model_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    entry = {"type": "main", "engine": "huggingface", "model": str(tmp_path / "nothing")}
    config = RailsConfig.from_content(config={"models": [entry]})
    model = build(config.models[0], config.deadlines_of(config.models[0]))

    async def ask() -> None:
        await listen(model, Call("x", [{"role": "user", "content": "Hi"}]))

    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        asyncio.run(ask())
