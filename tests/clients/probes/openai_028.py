import openai
from probing import BASE_URL, MODEL, run

openai.api_base, openai.api_key = BASE_URL, "testing"


def ask(prompt, stream):
    answer = openai.ChatCompletion.create(model=MODEL, messages=[{"role": "user", "content": prompt}], stream=stream)
    if not stream:
        return answer["choices"][0]["message"]["content"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in answer)


run(ask)
