/**
 * One sandbox in one Deno process, without any permission: image in on stdin, then frames in and out, until the host is
 * done with it. docs/design/deno.md has the wire. Nothing returns from here and nothing is repaired.
 */

import { type Assets, readAssets } from "./assets.ts";
import { FileSystem } from "./fs_system.ts";
import { Guest } from "./guest.ts";
import { emptyRealm } from "./harden.ts";
import { HostError } from "./host_error.ts";
import { CLOCKS, cpuS, die, readExactly } from "./platform.ts";
import { EXIT_NO_GUEST } from "./protocol.gen.ts";
import { GuestHost } from "./relay.ts";
import type { Inbox } from "./ring.ts";
import { channelOf, sayHello, startReader } from "./wire.ts";
import { warmUp } from "./warm_up.ts";
import { World } from "./world.ts";

/** Cap until `start` brings the tenant's own. */
const WARM_MEMORY_BYTES = 256 * 1024 * 1024;
/** Replaced by `start`, as are the quotas of 0 files, before any code of a tenant runs. */
const NO_TENANT_SEED = new Uint8Array(32);

/**
 * The rehearsed cell that is interrupted. A cold worker runs it as well: what it goes through is compiled at its first
 * use, and a tenant's loop has to end soon after it was told to.
 */
const INTERRUPTED = 2;

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
  const guest = new Guest({
    ...{ module, memory, world, files, memoryBytes: WARM_MEMORY_BYTES, die },
    ...{ bufferBytes: boot.buffer_bytes, outputStateAt: boot.output_state },
  });
  return new GuestHost(guest, world, files, channelOf(inbox));
}

function serve(image: string, host: GuestHost, inbox: Inbox): never {
  host.rehearse(INTERRUPTED);
  sayHello(image);
  warmUp(host, (timeoutMs) => inbox.comesWithin(timeoutMs), cpuS);
  for (;;) host.handle(inbox.readRequest());
}

main();
