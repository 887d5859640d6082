// Server-Sent Events over fetch: the token stays in a header and reaches no address, no log and no history.
// After a break the last event's id is sent, and the server replays what came in between.

import { headers, refusalOf } from "./api.js";

const SILENT_MS = 45000; // the server sends at least a comment every 15 s
const BACK_OFF_MS = [300, 1000, 2000, 3000, 5000];

/** One parsed event of an SSE block, or null for a comment. */
export function parseEvent(block) {
  const event = { id: null, type: "message", data: [] };
  for (const line of block.split("\n")) {
    if (line.startsWith(":") || line === "") continue;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") event.data.push(value);
    else if (field === "id") event.id = value;
    else if (field === "event") event.type = value;
  }
  return event.data.length || event.id ? { ...event, data: event.data.join("\n") } : null;
}

/**
 * Listen until `stop()`. `on.event(event)`, `on.state("connecting" | "live" | "lost" | "refused")`, and `on.again()` after a
 * break, when a caller had better read the list afresh.
 */
export function listen(address, on) {
  let stopped = false;
  let lastId = null;
  let failures = 0;
  let broken = false;
  let abort = null;

  async function once() {
    abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const answer = await fetch(address, {
        headers: headers({ Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) }),
        cache: "no-store", credentials: "omit", signal: abort.signal,
      });
      if (!answer.ok) throw await refusalOf(answer);
      on.state("live");
      if (broken) on.again();
      broken = false;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        failures = 0;
        on.alive();
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENT_MS);
        const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
        rest = blocks.pop();
        for (const event of blocks.map(parseEvent).filter(Boolean)) {
          lastId = event.id ?? lastId;
          if (event.data) on.event(event);
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }

  async function run() {
    on.state("connecting");
    while (!stopped) {
      try {
        await once();
      } catch (error) {
        if (stopped) return;
        if (error.status === 401 || error.status === 403) {
          on.state("refused");
          return;
        }
      }
      if (stopped) return;
      broken = true;
      on.state("lost");
      await new Promise((resolve) => setTimeout(resolve, BACK_OFF_MS[Math.min(failures++, BACK_OFF_MS.length - 1)]));
    }
  }

  run();
  return { stop() { stopped = true; abort?.abort(); } };
}
