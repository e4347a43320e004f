import asyncio

from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from probing import BASE_URL, MODEL, run

INFO = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown", "structured_output": True}
client = OpenAIChatCompletionClient(model=MODEL, base_url=BASE_URL, api_key="testing", model_info=INFO)
loop = asyncio.new_event_loop()


async def streamed(messages):
    return "".join([part async for part in client.create_stream(messages) if isinstance(part, str)])


def ask(prompt, stream):
    messages = [UserMessage(content=prompt, source="user")]
    if stream:
        return loop.run_until_complete(streamed(messages))
    return loop.run_until_complete(client.create(messages)).content


run(ask)
