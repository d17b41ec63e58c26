/**
 * One sandbox in one Deno process, without any permission: image in on stdin, then frames in and out, until the host is
 * done with it. docs/design/deno.md has the wire. Nothing returns from here and nothing is repaired.
 */

import { type Assets, readAssets } from "./assets.ts";
import { buildFrame } from "./framing.ts";
import { FileSystem } from "./fs_system.ts";
import { Guest } from "./guest.ts";
import { emptyRealm } from "./harden.ts";
import { HostError } from "./host_error.ts";
import { CLOCKS, cpuS, die, ENGINE, readExactly, writeAll } from "./platform.ts";
import { EXIT_NO_GUEST, type Hello, PROTOCOL_VERSION } from "./protocol.gen.ts";
import { rehearseHost } from "./rehearsal.ts";
import { GuestHost } from "./relay.ts";
import { Inbox } from "./ring.ts";
import { World } from "./world.ts";

/** Nobody wants this worker yet: it is a warm one, and rehearses. A cold one hears `start` within a millisecond. */
const REHEARSE_AFTER_MS = 20;
/** Cells of wasm_sandbox/guest/rehearsal.py. */
const REHEARSALS = 8;
/** V8 optimises what the rehearsals made hot on another thread; the first run of that code is slow again. */
const OPTIMISED_AFTER_MS = 800;
/** Cap until `start` brings the tenant's own. */
const WARM_MEMORY_BYTES = 256 * 1024 * 1024;
/** Replaced by `start`, as are the quotas of 0 files, before any code of a tenant runs. */
const NO_TENANT_SEED = new Uint8Array(32);

function main(): never {
  let code: number | undefined = EXIT_NO_GUEST;
  try {
    const assets = readAssets(readExactly);
    const inbox = startReader(assets);
    const host = makeHost(assets, inbox);
    const left = emptyRealm();
    if (left.length > 0) throw new HostError(`the realm keeps ${left.join(", ")}`);
    inbox.waitForReader();
    code = undefined;
    serve(assets.boot.image, host, inbox);
  } catch (error) {
    die(error, code);
  }
}

/** From here on stdin belongs to the second thread. */
function startReader({ boot, readerSource, memory }: Assets): Inbox {
  const inbox = new Inbox(memory.buffer as unknown as SharedArrayBuffer, boot.interrupt); // assets.ts made it shared
  const source = `data:text/javascript,${encodeURIComponent(readerSource)}`;
  const reader = new Worker(source, { type: "module" });
  reader.postMessage(inbox.setup);
  return inbox;
}

function makeHost({ boot, module, memory, stdlib }: Assets, inbox: Inbox): GuestHost {
  const world = new World(NO_TENANT_SEED, CLOCKS);
  const files = new FileSystem({
    baseFiles: new Map([[boot.stdlib_path, stdlib]]),
    maxFiles: 0,
    maxBytes: 0,
    clock: () => world.timeNs(),
    random: (size) => world.random(size),
  });
  const bufferBytes = boot.buffer_bytes;
  const guest = new Guest({ module, memory, world, files, memoryBytes: WARM_MEMORY_BYTES, bufferBytes, die });
  const channel = {
    send: writeAll,
    ask: (question: Uint8Array) => {
      writeAll(question);
      return inbox.read();
    },
    finish: () => inbox.finish(),
    cpuS,
  };
  return new GuestHost(guest, world, files, channel);
}

function serve(image: string, host: GuestHost, inbox: Inbox): never {
  const hello: Hello = {
    type: "hello",
    protocol_version: PROTOCOL_VERSION,
    engine: ENGINE.slice(0, 64),
    image,
    attachments: [],
  };
  writeAll(buildFrame(hello));
  if (!inbox.comesWithin(REHEARSE_AFTER_MS)) rehearseHost();
  for (let number = 0; number < REHEARSALS && !inbox.comesWithin(0); number++) host.rehearse(number);
  if (!inbox.comesWithin(OPTIMISED_AFTER_MS)) host.rehearse();
  for (;;) host.handle(inbox.readRequest());
}

main();
