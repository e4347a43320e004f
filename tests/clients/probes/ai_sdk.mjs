import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { BASE_URL, MODEL, run } from "./probing.mjs";

const model = createOpenAICompatible({ name: "testing", baseURL: BASE_URL, apiKey: "testing" })(MODEL);

await run(async (prompt, stream) => {
  if (!stream) return (await generateText({ model, prompt })).text;
  let text = "";
  for await (const part of streamText({ model, prompt, onError: () => {} }).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
  }
  return text;
});
