/** Assertions for the tests: a handful, so that they need no package. */

/** Throw unless both are equal, element by element. */
export function assertEquals(actual: unknown, expected: unknown, about = ""): void {
  const [a, b] = [show(actual), show(expected)];
  if (a !== b) throw new Error(`${about}\n  got      ${a}\n  expected ${b}`);
}

/** Throw unless the work throws an error of this kind, whose message has this text. Returns the error. */
export function assertThrows<E extends Error>(
  work: () => unknown,
  kind: abstract new (...args: never[]) => E,
  text = "",
): E {
  try {
    work();
  } catch (error) {
    if (error instanceof kind && error.message.includes(text)) return error;
    throw new Error(`another error than ${kind.name} with ${JSON.stringify(text)}: ${String(error)}`);
  }
  throw new Error("nothing was thrown");
}

function show(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part === "bigint") return `${part}n`;
    if (part instanceof Uint8Array) return part.toHex();
    return part === undefined ? "undefined" : part;
  });
}
