import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI
from probing import BASE_URL, MODEL, run

set_tracing_disabled(True)
model = OpenAIChatCompletionsModel(model=MODEL, openai_client=AsyncOpenAI(base_url=BASE_URL, api_key="testing"))
agent = Agent(name="a", model=model)
loop = asyncio.new_event_loop()


async def streamed(prompt):
    result = Runner.run_streamed(agent, prompt)
    async for _ in result.stream_events():
        pass
    return result.final_output


def ask(prompt, stream):
    if stream:
        return loop.run_until_complete(streamed(prompt))
    return loop.run_until_complete(Runner.run(agent, prompt)).final_output


run(ask)
