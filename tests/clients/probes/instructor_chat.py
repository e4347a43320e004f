import instructor
import openai
from probing import BASE_URL, MODEL, run
from pydantic import BaseModel


class Words(BaseModel):
    words: str


client = instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key="testing"), mode=instructor.Mode.JSON)


def ask(prompt, stream):
    given = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_retries": 2}
    if not stream:
        return client.chat.completions.create(response_model=Words, **given).words
    return [part.words for part in client.chat.completions.create_partial(response_model=Words, **given)][-1]


run(ask)
