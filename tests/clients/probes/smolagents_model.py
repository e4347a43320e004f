from probing import BASE_URL, MODEL, run
from smolagents import OpenAIServerModel

model = OpenAIServerModel(model_id=MODEL, api_base=BASE_URL, api_key="testing")


def ask(prompt, stream):
    messages = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    if not stream:
        return model.generate(messages).content
    return "".join(delta.content or "" for delta in model.generate_stream(messages))


run(ask)
