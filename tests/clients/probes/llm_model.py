from llm.default_plugins.openai_models import Chat
from probing import BASE_URL, MODEL, run

model = Chat(MODEL, model_name=MODEL, api_base=BASE_URL)
model.key = "testing"


def ask(prompt, stream):
    return model.prompt(prompt, stream=stream, key="testing").text()


run(ask)
