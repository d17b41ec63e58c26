import { assertEquals, assertThrows } from "./assert_test.ts";
import { blake2b256 } from "./blake2b.ts";
import { shake256 } from "./keccak.ts";
import { World } from "./world.ts";

const count = (size: number) => Uint8Array.from({ length: size }, (_, index) => index & 255);

Deno.test("SHAKE256 agrees with hashlib around the edges of a block", () => {
  assertEquals(
    shake256(new Uint8Array(0), 32).toHex(),
    "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f",
  );
  assertEquals(shake256(new Uint8Array(135), 16).toHex(), "4a6c0970c326babfaeef17f91988d1b4");
  assertEquals(shake256(new Uint8Array(136), 16).toHex(), "ea947b835fec1f9b0a7eabba901deb78");
  const long = shake256(count(512), 300).toHex();
  assertEquals(long.slice(0, 64), "a1d71885b0a841f03d1dc7f2738a15cc984071a17ffed5ecacb9f58720a473be");
  assertEquals(long.slice(-64), "2b294ea08b4216e42760743067f7c39f53691c7cc70f83e3ee2d856da2d72c80");
});

Deno.test("BLAKE2b agrees with hashlib", () => {
  assertEquals(
    blake2b256(new Uint8Array(0), new Uint8Array(0)).toHex(),
    "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
  );
  assertEquals(
    blake2b256(count(128), new TextEncoder().encode("abc")).toHex(),
    "bcf53dfc0dabbd973d7f849f89903697d0ed310415cb80b9c7978843d0ba26ac",
  );
});

Deno.test("a world draws the bytes that the other engine's world draws from the same seed", () => {
  const world = new World(count(32), clocks(0, 0));
  assertEquals(world.random(8).toHex(), "3c3eb04983c8ad84");
  assertEquals(world.random(32).toHex(), "82c2af27327c68efbe7cf2b02c2440ca23fa963969855e3016fbd444122e624f");
  assertEquals(world.random(200).length, 200);
  world.reseed(count(32));
  assertEquals(world.random(8).toHex(), "3c3eb04983c8ad84");
});

Deno.test("a short seed is refused", () => {
  assertThrows(() => new World(new Uint8Array(15), clocks(0, 0)), RangeError, "at least 16");
});

Deno.test("clocks are cut to whole microseconds and the monotonic one begins at 0", () => {
  const times = clocks(5000.25, 1_700_000_000_000);
  const world = new World(count(32), times);
  assertEquals(world.monotonicNs(), 0n);
  times.now = 5001.2507;
  times.wall += 1;
  assertEquals(world.monotonicNs(), 1_000_000n);
  assertEquals(world.timeNs(), 1_700_000_000_001_000_000n);
  assertEquals(world.monotonicMs(), 1);
});

Deno.test("the wall clock follows the machine's when that was set to another time", () => {
  const times = clocks(0, 1_700_000_000_000);
  const world = new World(count(32), times);
  times.wall += 3_600_000;
  assertEquals(world.timeNs(), 1_700_003_600_000_000_000n);
});

function clocks(now: number, wall: number) {
  return {
    now,
    wall,
    monotonicMs(): number {
      return this.now;
    },
    wallMs(): number {
      return this.wall;
    },
  };
}
