from langchain_openai import ChatOpenAI
from probing import BASE_URL, MODEL, run

model = ChatOpenAI(model=MODEL, base_url=BASE_URL, api_key="testing")


def ask(prompt, stream):
    if not stream:
        return model.invoke(prompt).content
    return "".join(chunk.content for chunk in model.stream(prompt))


run(ask)
