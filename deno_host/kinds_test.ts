import { assertEquals } from "./assert_test.ts";
import { concat } from "./bytes.ts";
import { buildFrame } from "./framing.ts";
import { kindOf } from "./kinds.ts";

Deno.test("each type of a guest's frame has its kind", () => {
  const kinds = ["output", "tool_start", "tool_cancel", "guest_limit", "result", "tool_call", "wait"]
    .map((type) => kindOf(buildFrame({ type, attachments: [] })));
  assertEquals(kinds, ["output", "one_way", "one_way", "one_way", "result", "tool_call", "wait"]);
});

Deno.test("what only a worker or its host may say, or nobody, is no guest's frame", () => {
  for (const type of ["done", "ready", "hello", "engine_limit", "cell", "wake", "results", "wai", ""]) {
    assertEquals(kindOf(buildFrame({ type, attachments: [] })), undefined);
  }
  assertEquals(kindOf(buildFrame({ attachments: [], type: "wait" })), undefined);
});

Deno.test("two frames in one message, a cut one and none are refused", () => {
  const wait = buildFrame({ type: "wait", attachments: [] });
  assertEquals(kindOf(concat([wait, buildFrame({ type: "done", attachments: [] })])), undefined);
  for (const size of [0, 7, 8, 12, wait.length - 1]) assertEquals(kindOf(wait.subarray(0, size)), undefined);
});
