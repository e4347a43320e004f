// Run by Node: ask each use plain and streamed, and print what the application sees as JSON.
import { readFileSync } from "node:fs";

export const BASE_URL = process.env.PROBE_URL;
export const MODEL = "testing";

export async function run(ask) {
  const seen = {};
  for (const [name, prompt] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
    for (const stream of [false, true]) {
      const use = name + (stream ? " streamed" : "");
      try {
        seen[use] = { text: await ask(prompt, stream) };
      } catch (error) {
        seen[use] = described(error);
      }
    }
  }
  console.log("\n" + JSON.stringify(seen));
}

function described(error) {
  const shown = { class: error?.constructor?.name ?? typeof error };
  for (let at = error?.lastError ?? error; at; at = at.cause) {
    shown.status ??= at.status ?? at.statusCode;
    shown.code ??= at.code ?? at.data?.error?.code ?? undefined;
  }
  return shown;
}
