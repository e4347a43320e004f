import asyncio

from probing import BASE_URL, MODEL, run
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE_URL, api_key="testing")))
loop = asyncio.new_event_loop()


async def streamed(prompt):
    async with agent.run_stream(prompt) as result:
        return "".join([part async for part in result.stream_text(delta=True)])


def ask(prompt, stream):
    if stream:
        return loop.run_until_complete(streamed(prompt))
    return loop.run_until_complete(agent.run(prompt)).output


run(ask)
