import litellm
from probing import BASE_URL, MODEL, run

litellm.suppress_debug_info = True


def ask(prompt, stream):
    answer = litellm.completion(
        model="openai/" + MODEL,
        api_base=BASE_URL,
        api_key="testing",
        messages=[{"role": "user", "content": prompt}],
        stream=stream,
    )
    if not stream:
        return answer.choices[0].message.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer)


run(ask)
