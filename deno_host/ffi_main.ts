/**
 * One sandbox with JavaScript in one Deno process: `main.ts` with the full Pyodide as its guest, for
 * `engine_options={"js_ffi": True}`. The same frames, driver, jail and absent permissions.
 */

import { bootPyodide, type FfiAssets, readFfiAssets } from "./ffi_boot.ts";
import { FfiFiles } from "./ffi_files.ts";
import { FfiGuest } from "./ffi_guest.ts";
import { keepErrorsInside, pruneRealm, replaceConsole } from "./ffi_realm.ts";
import { Idler } from "./ffi_idle.ts";
import { HostError } from "./host_error.ts";
import { CLOCKS, die, readExactly } from "./platform.ts";
import { EXIT_NO_GUEST } from "./protocol.gen.ts";
import { GuestHost } from "./relay.ts";
import { HostGone, type Inbox } from "./ring.ts";
import { channelOf, sayHello, startReader } from "./wire.ts";
import { World } from "./world.ts";

const REHEARSE_AFTER_MS = 20;
const FLAG_BYTES = 64;

interface Host {
  readonly inbox: Inbox;
  readonly relay: GuestHost;
  readonly idler: Idler;
}

async function main(): Promise<never> {
  let code: number | undefined = EXIT_NO_GUEST;
  try {
    const assets = readFfiAssets(readExactly);
    const flags = new SharedArrayBuffer(FLAG_BYTES);
    const inbox = startReader(assets.readerSource, flags, 0);
    keepErrorsInside();
    const left = pruneRealm();
    if (left.length > 0) throw new HostError(`the realm keeps ${left.join(", ")}`);
    const host = await makeHost(assets, inbox, flags);
    host.inbox.waitForReader();
    code = undefined;
    return await serve(assets.boot.image, host);
  } catch (error) {
    return die(error, code);
  }
}

async function makeHost(assets: FfiAssets, inbox: Inbox, flags: SharedArrayBuffer): Promise<Host> {
  const guest = new FfiGuest(die);
  const booted = await bootPyodide(assets, guest.change);
  const signal = signalFlag(inbox, flags);
  guest.open(booted, assets.prelude, signal);
  replaceConsole((stream, text) => guest.print(stream, text));
  const files = new FfiFiles(booted.module.FS);
  booted.pyodide.setStdout({ write: (data) => files.rawOutput(1, data) });
  booted.pyodide.setStderr({ write: (data) => files.rawOutput(2, data) });
  const channel = channelOf(inbox);
  // Pyodide asks the machine for clocks and random numbers; the seed of `start` has no one to go to.
  const relay = new GuestHost(guest, new World(new Uint8Array(32), CLOCKS), files, channel);
  return { inbox, relay, idler: new Idler(guest, channel.ask, () => signal[0] !== 0) };
}

/** What CPython looks at between instructions: the flag that the second thread sets. */
function signalFlag(inbox: Inbox, flags: SharedArrayBuffer): { 0: number } {
  const flag = new Int32Array(flags, 0, 1);
  let seen = 0;
  return {
    get 0() {
      seen = Atomics.load(flag, 0);
      return seen !== 0 && inbox.hostIsGone ? die(new HostGone()) : seen;
    },
    set 0(signal: number) {
      Atomics.compareExchange(flag, 0, seen, signal); // it is cleared after every look; one of just now stays
    },
  };
}

async function serve(image: string, { inbox, relay, idler }: Host): Promise<never> {
  sayHello(image);
  if (!inbox.comesWithin(REHEARSE_AFTER_MS)) relay.rehearse();
  for (;;) await relay.handleIdling(inbox.readRequest(), (idle) => idler.answer(idle));
}

await main();
