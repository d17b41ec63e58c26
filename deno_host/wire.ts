/** How a host of either kind talks: the second thread on stdin, the relay's channel, the first word. */

import { buildFrame } from "./framing.ts";
import { cpuS, ENGINE, writeAll } from "./platform.ts";
import { type Hello, PROTOCOL_VERSION } from "./protocol.gen.ts";
import type { Channel } from "./relay.ts";
import { Inbox } from "./ring.ts";

/** From here on stdin belongs to the second thread; it sets the interrupt flag at `flagAt` of `memory`. */
export function startReader(source: string, memory: SharedArrayBuffer, flagAt: number): Inbox {
  const inbox = new Inbox(memory, flagAt);
  const reader = new Worker(`data:text/javascript,${encodeURIComponent(source)}`, { type: "module" });
  reader.postMessage(inbox.setup);
  return inbox;
}

/** What the relay sends frames through. */
export function channelOf(inbox: Inbox): Channel {
  return {
    send: writeAll,
    ask: (question: Uint8Array) => {
      writeAll(question);
      return inbox.read();
    },
    finish: () => inbox.finish(),
    cpuS,
  };
}

/** The worker is ready for its first request. */
export function sayHello(image: string): void {
  const hello: Hello = {
    type: "hello",
    protocol_version: PROTOCOL_VERSION,
    engine: ENGINE.slice(0, 64),
    image,
    attachments: [],
  };
  writeAll(buildFrame(hello));
}
