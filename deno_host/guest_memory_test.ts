import { assertEquals, assertThrows } from "./assert_test.ts";
import { GuestMemory, MemoryFault, PAGE_BYTES } from "./guest_memory.ts";

const memory = () => new GuestMemory(new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true }));

Deno.test("an access that leaves the memory is a fault, and nothing of it is done", () => {
  const guest = memory();
  const outside: (() => unknown)[] = [
    () => guest.read(PAGE_BYTES - 1, 2),
    () => guest.read(0, 2 ** 32),
    () => guest.read(2 ** 32 - 1, 2 ** 32 - 1),
    () => guest.read(-1, 1),
    () => guest.read(NaN, 1),
    () => guest.write(PAGE_BYTES - 1, new Uint8Array([1, 2])),
    () => guest.u32(PAGE_BYTES - 3),
    () => guest.i64(PAGE_BYTES - 7),
    () => guest.setU32(PAGE_BYTES - 3, 1),
    () => guest.setU64(PAGE_BYTES - 7, 1n),
    () => guest.cstr(PAGE_BYTES),
  ];
  for (const access of outside) assertThrows(access, MemoryFault);
  assertEquals(guest.read(PAGE_BYTES - 8, 8), new Uint8Array(8));
});

Deno.test("a C string ends inside its bound and inside the memory", () => {
  const guest = memory();
  guest.write(10, new Uint8Array([116, 101, 97, 0]));
  assertEquals(guest.cstr(10, 3), "tea");
  assertThrows(() => guest.cstr(10, 2), MemoryFault);
  guest.write(PAGE_BYTES - 2, new Uint8Array([65, 66]));
  assertThrows(() => guest.cstr(PAGE_BYTES - 2), MemoryFault);
});

Deno.test("what was read is a copy that the guest cannot change any more", () => {
  const guest = memory();
  const copy = guest.read(0, 4);
  guest.setU32(0, 7);
  assertEquals(copy, new Uint8Array(4));
});

Deno.test("a memory grows up to its maximum and its views follow", () => {
  const guest = memory();
  assertEquals([guest.grow(1), guest.size, guest.grow(1), guest.size], [true, 2 * PAGE_BYTES, false, 2 * PAGE_BYTES]);
  guest.setU32(2 * PAGE_BYTES - 4, 5);
  assertEquals(guest.u32(2 * PAGE_BYTES - 4), 5);
});
