from llama_index.llms.openai_like import OpenAILike
from probing import BASE_URL, MODEL, run

model = OpenAILike(model=MODEL, api_base=BASE_URL, api_key="testing", is_chat_model=True)


def ask(prompt, stream):
    if not stream:
        return model.complete(prompt).text
    return "".join(part.delta or "" for part in model.stream_complete(prompt))


run(ask)
