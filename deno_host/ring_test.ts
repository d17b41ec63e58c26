/**
 * The two threads together: the real reader in a real worker, its stdin replaced by bytes that the test hands over one
 * piece at a time.
 */

import { assertEquals, assertThrows } from "./assert_test.ts";
import { buildFrame } from "./framing.ts";
import { HostError } from "./host_error.ts";
import { HostGone, Inbox } from "./ring.ts";

const FLAG_AT = 64, SIGINT = 2, LONGEST_MS = 10_000;
const INTERRUPT = new Uint8Array([255, 255, 255, 255]);
const LIST = buildFrame({ type: "list_files", attachments: [] });

/** `feed[0]` is 0: the reader wants bytes · n > 0: n bytes are there · -1: the end. */
const PREAMBLE = `
  Deno.stdin.readSync = (target) => {
    const feed = globalThis.feed, words = new Int32Array(feed, 0, 1);
    Atomics.store(words, 0, 0);
    Atomics.notify(words, 0);
    Atomics.wait(words, 0, 0);
    const size = Atomics.load(words, 0);
    if (size < 0) return null;
    target.set(new Uint8Array(feed, 4, size));
    return size;
  };
`;

class Line {
  readonly memory = new SharedArrayBuffer(65536);
  readonly flag = new Int32Array(this.memory, FLAG_AT, 1);
  readonly inbox = new Inbox(this.memory, FLAG_AT);
  readonly #feed = new SharedArrayBuffer(70_000);
  readonly #words = new Int32Array(this.#feed, 0, 1);
  readonly #worker: Worker;

  constructor() {
    const reader = Deno.readTextFileSync(new URL("./stdin_reader.ts", import.meta.url));
    // The test's own message comes first and is not the reader's.
    const source = `// @ts-nocheck: the two halves are checked where they stand
      ${PREAMBLE}
      ${reader}
      const begin = self.onmessage;
      self.onmessage = (event) => {
        globalThis.feed = event.data.feed;
        begin({ data: event.data.setup });
      };`;
    Atomics.store(this.#words, 0, 1);
    this.#worker = new Worker(`data:application/typescript,${encodeURIComponent(source)}`, { type: "module" });
    this.#worker.postMessage({ feed: this.#feed, setup: this.inbox.setup });
    this.inbox.waitForReader();
  }

  /** Returns when the reader has taken all of it and wants more. */
  send(...parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      this.#wanted();
      new Uint8Array(this.#feed, 4).set(part);
      this.#set(part.length);
      this.#wanted();
    }
  }

  close(): void {
    this.#wanted();
    this.#set(-1);
  }

  end(): void {
    this.#worker.terminate();
  }

  #set(value: number): void {
    Atomics.store(this.#words, 0, value);
    Atomics.notify(this.#words, 0);
  }

  #wanted(): void {
    for (let value = Atomics.load(this.#words, 0); value !== 0; value = Atomics.load(this.#words, 0)) {
      if (Atomics.wait(this.#words, 0, value, LONGEST_MS) === "timed-out") throw new Error("the reader is stuck");
    }
  }
}

function withLine(name: string, work: (line: Line) => void): void {
  Deno.test(name, () => {
    const line = new Line();
    try {
      work(line);
    } finally {
      line.end();
    }
  });
}

withLine("a frame arrives whole, however its bytes come", (line) => {
  line.send(...Array.from(LIST, (byte) => new Uint8Array([byte])));
  assertEquals(line.inbox.read(), LIST);
});

withLine("frames that come together are taken apart", (line) => {
  line.send(new Uint8Array([...LIST, ...LIST]));
  assertEquals(line.inbox.readRequest(), LIST);
  assertEquals(line.inbox.read(), LIST);
  assertEquals(line.inbox.comesWithin(0), false);
});

withLine("an interrupt before any request is dropped", (line) => {
  line.send(INTERRUPT, LIST);
  line.inbox.readRequest();
  assertEquals(line.flag[0], 0);
});

withLine("an interrupt between a request and its beginning is kept for it", (line) => {
  line.send(new Uint8Array([...LIST, ...INTERRUPT]));
  assertEquals(line.flag[0], 0);
  line.inbox.readRequest();
  assertEquals(line.flag[0], SIGINT);
});

withLine("an interrupt during a request sets the flag, also when its bytes come one by one", (line) => {
  line.send(LIST);
  line.inbox.readRequest();
  line.send(...Array.from(INTERRUPT, (byte) => new Uint8Array([byte])));
  assertEquals(line.flag[0], SIGINT);
});

withLine("an interrupt that the request did not see is taken back at its end", (line) => {
  line.send(LIST);
  line.inbox.readRequest();
  line.send(INTERRUPT);
  line.inbox.finish();
  assertEquals(line.flag[0], 0);
  line.send(LIST);
  line.inbox.readRequest();
  assertEquals(line.flag[0], 0);
});

withLine("a late interrupt does not reach the next request", (line) => {
  line.send(LIST);
  line.inbox.readRequest();
  line.inbox.finish();
  line.flag[0] = SIGINT; // as if the reader had looked at the state just before
  line.send(INTERRUPT, LIST);
  line.inbox.readRequest();
  assertEquals(line.flag[0], 0);
});

withLine("an answer inside a request does not take its interrupt back", (line) => {
  line.send(LIST);
  line.inbox.readRequest();
  line.send(INTERRUPT, LIST);
  line.inbox.read();
  assertEquals(line.flag[0], SIGINT);
});

withLine("bytes of a frame that look like an interrupt are content", (line) => {
  const frame = buildFrame({ type: "tool_result", attachments: [8] }, [new Uint8Array(8).fill(255)]);
  line.send(LIST);
  line.inbox.readRequest();
  line.send(frame);
  assertEquals(line.inbox.read(), frame);
  assertEquals(line.flag[0], 0);
});

withLine("a length over the bound ends it before anything is stored", (line) => {
  line.send(new Uint8Array([0, 0, 0, 240, 4, 0, 0, 0]));
  assertThrows(() => line.inbox.read(), HostError, "are allowed");
});

withLine("the end of stdin is seen by whoever waits", (line) => {
  line.send(LIST.subarray(0, 5));
  line.close();
  assertThrows(() => line.inbox.read(), HostGone);
});
