import openai
from probing import BASE_URL, MODEL, run

client = openai.OpenAI(base_url=BASE_URL, api_key="testing")


def ask(prompt, stream):
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}], stream=stream)
    if not stream:
        return answer.choices[0].message.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


run(ask)
