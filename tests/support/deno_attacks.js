// What an attacker does who runs JavaScript in a Deno with every permission: only the jail is left. One attack per process.
const libc = () =>
  Deno.dlopen("libc.so.6", {
    execve: { parameters: ["buffer", "pointer", "pointer"], result: "i32" },
    fork: { parameters: [], result: "i32" },
    kill: { parameters: ["i32", "i32"], result: "i32" },
    ptrace: { parameters: ["i64", "i32", "pointer", "pointer"], result: "i64" },
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    mount: { parameters: ["buffer", "buffer", "buffer", "u64", "pointer"], result: "i32" },
    unshare: { parameters: ["i32"], result: "i32" },
    prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", "i64"], result: "i32" },
    dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
    mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
    prlimit: { parameters: ["i32", "i32", "pointer", "pointer"], result: "i32" },
    pthread_attr_init: { parameters: ["buffer"], result: "i32" },
    pthread_attr_setstack: { parameters: ["buffer", "pointer", "usize"], result: "i32" },
    pthread_create: { parameters: ["buffer", "buffer", "pointer", "pointer"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  }).symbols;
const text = (word) => new TextEncoder().encode(word + "\0");
function checked(result, calls) {
  if (Number(result) >= 0) return `gained ${result}`;
  throw new Error(`errno ${new Deno.UnsafePointerView(calls.__errno_location()).getInt32()}`);
}
const attacks = {
  nothing: () => "gained nothing",
  read_file: (path) => Deno.readTextFileSync(path).slice(0, 20),
  list_folder: (path) => [...Deno.readDirSync(path)].map((entry) => entry.name).join(),
  look_at_file: (path) => Deno.statSync(path).size,
  write_file: (path) => (Deno.writeTextFileSync(path, "x"), "gained a file"),
  write_beside: () => (Deno.writeTextFileSync(new URL("./more.js", import.meta.url), "x"), "gained a script"),
  connect: async (port) => (await Deno.connect({ port: Number(port) }), "gained a connection"),
  listen: () => (Deno.listen({ port: 0 }), "gained a port"),
  resolve: async () => await Deno.resolveDns("localhost", "A"),
  run_program: () => new Deno.Command(Deno.execPath(), { args: ["--version"] }).outputSync().code,
  exec_deno: () => {
    const calls = libc();
    return checked(calls.execve(text(Deno.execPath()), null, null), calls);
  },
  fork: () => {
    const calls = libc();
    return checked(calls.fork(), calls);
  },
  socket: () => {
    const calls = libc();
    return checked(calls.socket(1, 1, 0), calls);
  },
  kill: (pid) => {
    const calls = libc();
    return checked(calls.kill(Number(pid), 0), calls);
  },
  ptrace: (pid) => {
    const calls = libc();
    return checked(calls.ptrace(0x4206n, Number(pid), null, null), calls);
  },
  unshare: () => {
    const calls = libc();
    return checked(calls.unshare(0x4000000), calls);
  },
  outlive: () => {
    const calls = libc();
    return checked(calls.prctl(1, 0n, 0n, 0n, 0n), calls);
  },
  own_signals: () => {
    const calls = libc();
    return checked(calls.fcntl(0, 8, 1n), calls);
  },
  limit_by_odd_pointer: () => {
    const calls = libc();
    const place = Deno.UnsafePointer.create(0x7000_0000_0000n); // its low half is that of a null pointer
    calls.mmap(place, 4096n, 3, 0x32, -1, 0n);
    new BigUint64Array(Deno.UnsafePointerView.getArrayBuffer(place, 16)).set([100n, 100n]);
    return checked(calls.prlimit(0, 0, place, null), calls);
  },
  threads: (count, staysMs) => {
    const calls = libc(), size = 16384;
    const sleep = calls.dlsym(null, text("sleep")), seconds = Deno.UnsafePointer.create(60n);
    const stacks = Deno.UnsafePointer.value(calls.mmap(null, BigInt(size * count), 3, 0x4022, -1, 0n));
    const attributes = new Uint8Array(64), id = new Uint8Array(8);
    for (let number = 0; number < count; number++) {
      calls.pthread_attr_init(attributes);
      const stack = Deno.UnsafePointer.create(BigInt(stacks) + BigInt(number * size));
      calls.pthread_attr_setstack(attributes, stack, BigInt(size));
      if (calls.pthread_create(id, attributes, sleep, seconds) !== 0) throw new Error("no more threads");
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(staysMs));
    return `gained ${count} threads`;
  },
  environment: () => JSON.stringify(Deno.env.toObject()),
  machine_name: () => Deno.hostname(),
  user: () => Deno.uid(),
  descriptors: () => {
    const files = [];
    for (let count = 0; count < 100; count++) files.push(Deno.openSync(new URL(import.meta.url)));
    return `gained ${files.length}`;
  },
};

const asked = new Uint8Array(4096);
const [name, ...words] = new TextDecoder().decode(asked.subarray(0, Deno.stdin.readSync(asked) ?? 0)).split(" ");
let answer;
try {
  answer = `GAINED ${await attacks[name](...words)}`;
} catch (error) {
  answer = `refused ${error.name}: ${error.message}`;
}
Deno.stdout.writeSync(new TextEncoder().encode(answer.slice(0, 1000)));
Deno.exit(0);
