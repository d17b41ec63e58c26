/**
 * One sandbox in one Deno process, without any permission: image in on stdin, then frames in and out, until the host is
 * done with it. docs/design/deno.md has the wire. Nothing returns from here and nothing is repaired.
 */

import { type Assets, readAssets } from "./assets.ts";
import { FileSystem } from "./fs_system.ts";
import { Guest } from "./guest.ts";
import { emptyRealm } from "./harden.ts";
import { HostError } from "./host_error.ts";
import { CLOCKS, die, readExactly } from "./platform.ts";
import { EXIT_NO_GUEST } from "./protocol.gen.ts";
import { rehearseHost } from "./rehearsal.ts";
import { GuestHost } from "./relay.ts";
import type { Inbox } from "./ring.ts";
import { channelOf, sayHello, startReader } from "./wire.ts";
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
    const { boot, memory, readerSource } = assets;
    const inbox = startReader(readerSource, memory.buffer as unknown as SharedArrayBuffer, boot.interrupt); // it is shared
    const host = makeHost(assets, inbox);
    const left = emptyRealm();
    if (left.length > 0) throw new HostError(`the realm keeps ${left.join(", ")}`);
    inbox.waitForReader();
    code = undefined;
    serve(boot.image, host, inbox);
  } catch (error) {
    die(error, code);
  }
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
  return new GuestHost(guest, world, files, channelOf(inbox));
}

function serve(image: string, host: GuestHost, inbox: Inbox): never {
  sayHello(image);
  if (!inbox.comesWithin(REHEARSE_AFTER_MS)) rehearseHost();
  for (let number = 0; number < REHEARSALS && !inbox.comesWithin(0); number++) host.rehearse(number);
  if (!inbox.comesWithin(OPTIMISED_AFTER_MS)) host.rehearse();
  for (;;) host.handle(inbox.readRequest());
}

main();
