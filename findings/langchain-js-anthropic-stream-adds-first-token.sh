#!/bin/sh
# Expected: a streamed call of Claude has the output tokens of message_delta, which Anthropic documents as cumulative: 40 of 40.
# Happens: @langchain/anthropic adds the count of message_start to it, so usage_metadata says 41, and every stream costs a token too many.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @langchain/anthropic@1.5.11 @langchain/core@1.4.0 >/dev/null
cat >run.mjs <<'JS'
import http from "node:http";
import { ChatAnthropic } from "@langchain/anthropic";

const usage = (output_tokens) => ({ input_tokens: 5, output_tokens });
const message = { id: "msg_1", type: "message", role: "assistant", model: "claude-sonnet-4-5", content: [],
  stop_reason: null, stop_sequence: null };
const events = [
  { type: "message_start", message: { ...message, usage: usage(1) } },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Sunny." } },
  { type: "content_block_stop", index: 0 },
  { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 40 } },
  { type: "message_stop" },
];
const server = http.createServer((request, response) => {
  request.resume().on("end", () => {
    if (request.url.includes("messages")) {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
    } else response.writeHead(404).end();
  });
});
server.listen(0, "127.0.0.1", async () => {
  const model = new ChatAnthropic({ model: "claude-sonnet-4-5", apiKey: "none",
    anthropicApiUrl: `http://127.0.0.1:${server.address().port}`, maxRetries: 0 });
  let whole;
  for await (const chunk of await model.stream("Weather?")) whole = whole ? whole.concat(chunk) : chunk;
  console.log(whole.usage_metadata.output_tokens);
  server.close();
  process.exit(0);
});
JS
told=$(node run.mjs)
echo "@langchain/anthropic 1.5.11: message_start says 1, message_delta 40 (cumulative); usage_metadata says $told"
test "$told" = 41
