import OpenAI from "openai";
import { BASE_URL, MODEL, run } from "./probing.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "testing" });

await run(async (prompt, stream) => {
  const messages = [{ role: "user", content: prompt }];
  const answer = await client.chat.completions.create({ model: MODEL, messages, stream });
  if (!stream) return answer.choices[0].message.content;
  let text = "";
  for await (const chunk of answer) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
});
