import { assertEquals, assertThrows } from "./assert_test.ts";
import { toByteString, utf8ByteString } from "./bytes.ts";
import { Errno, FsError } from "./errno.ts";
import { O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from "./fs_descriptors.ts";
import { FileNode } from "./fs_nodes.ts";
import { AT_FDCWD, FileSystem } from "./fs_system.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array) => new TextDecoder().decode(data);

function system(maxFiles = 10, maxBytes = 1000) {
  let now = 0n;
  const output: string[] = [];
  const files = new FileSystem({
    baseFiles: new Map([["/lib/python.zip", bytes("image")]]),
    maxFiles,
    maxBytes,
    clock: () => ++now,
    random: (size) => new Uint8Array(size).fill(7),
  });
  files.output = (stream, data) => output.push(`${stream}:${text(data)}`);
  return { files, output };
}

function fails(work: () => unknown, errno: number): void {
  assertEquals(assertThrows(work, FsError).errno, errno);
}

Deno.test("a file that the host writes is read back, listed and counted", () => {
  const { files } = system();
  files.writeFile("/out/a/b.txt", bytes("tea"));
  assertEquals(text(files.readFile("/out/a/b.txt")), "tea");
  assertEquals(files.listFiles(), ["/out/a/b.txt"]);
  assertEquals([files.quota.files, files.quota.bytes], [2, 3]);
});

Deno.test("a relative path starts in the guest's working directory", () => {
  const { files } = system();
  files.writeFile("x", bytes("1"));
  assertEquals(files.listFiles(), ["/home/web_user/x"]);
});

Deno.test("paths are UTF-8 and sorted by their bytes", () => {
  const { files } = system();
  for (const name of ["/out/\u{1f600}", "/out/\uffff", "/out/a", "/out/é"]) files.writeFile(name, bytes(""));
  assertEquals(files.listFiles(), ["/out/a", "/out/é", "/out/\uffff", "/out/\u{1f600}"]);
});

Deno.test("a lone surrogate is no path", () => {
  fails(() => system().files.writeFile("/out/\ud800", bytes("")), Errno.EILSEQ);
});

Deno.test("files of the image and their folders cannot be changed", () => {
  const { files } = system();
  fails(() => files.writeFile("/lib/python.zip", bytes("")), Errno.EROFS);
  fails(() => files.writeFile("/lib/new", bytes("")), Errno.EROFS);
  fails(() => files.tree.unlink(files.find(AT_FDCWD, "/lib/python.zip", false)), Errno.EROFS);
  fails(() => files.open(AT_FDCWD, "/lib/python.zip", O_RDWR, 0), Errno.EROFS);
  const node = files.node(AT_FDCWD, "/lib/python.zip", true);
  fails(() => files.tree.setPermissions(node, 0o777), Errno.EROFS);
  assertEquals(text(files.readFile("/lib/python.zip")), "image");
});

Deno.test("the folders that a sandbox begins with stay", () => {
  const { files } = system();
  fails(() => files.tree.removeDirectory(files.find(AT_FDCWD, "/tmp", false)), Errno.EBUSY);
  const target = files.find(AT_FDCWD, "/out/x", false);
  fails(() => files.tree.rename(files.find(AT_FDCWD, "/tmp", false), target), Errno.EBUSY);
});

Deno.test("the quota of bytes holds for writes, holes and links, and gives back what is freed", () => {
  const { files } = system(10, 10);
  files.writeFile("/out/a", bytes("12345678"));
  fails(() => files.writeFile("/out/b", bytes("123")), Errno.ENOSPC);
  assertEquals(files.quota.refused.get("file_bytes"), 11);
  const fd = files.open(AT_FDCWD, "/out/a", O_RDWR, 0);
  files.openFiles.seek(fd, 1n << 40n, 0);
  fails(() => files.openFiles.write(fd, bytes("x")), Errno.ENOSPC);
  fails(() => files.openFiles.resize(fd, 11n), Errno.ENOSPC);
  fails(() => files.tree.newSymlink(files.find(AT_FDCWD, "/out/l", false), "abc"), Errno.ENOSPC);
  files.tree.unlink(files.find(AT_FDCWD, "/out/a", false));
  assertEquals(files.quota.bytes, 8, "an open file keeps its bytes");
  files.openFiles.close(fd);
  assertEquals([files.quota.files, files.quota.bytes], [0, 0]);
});

Deno.test("the quota of files holds", () => {
  const { files } = system(1);
  files.writeFile("/out/a", bytes(""));
  fails(() => files.writeFile("/out/b", bytes("")), Errno.ENOSPC);
  assertEquals(files.quota.refused.get("files"), 2);
});

Deno.test("a file grows, shrinks and grows again with zeros where nothing was written", () => {
  const file = new FileNode({ permissions: 0 });
  for (const [size, value] of [[5000, 1], [10, 0], [20_000, 0], [100, 0], [101, 0]] as const) {
    file.setSize(size);
    if (value) file.put(0, new Uint8Array(size).fill(value));
  }
  assertEquals(file.content(8, 12).toHex(), "01010000");
  assertEquals(file.size, 101);
});

Deno.test("append writes at the end wherever the description stands", () => {
  const { files } = system();
  files.writeFile("/out/a", bytes("12"));
  const fd = files.open(AT_FDCWD, "/out/a", O_WRONLY | O_APPEND, 0);
  files.openFiles.write(fd, bytes("3"));
  files.openFiles.seek(fd, 0n, 0);
  files.openFiles.write(fd, bytes("4"));
  assertEquals(text(files.readFile("/out/a")), "1234");
});

Deno.test("open refuses what its flags do not allow", () => {
  const { files } = system();
  files.writeFile("/out/a", bytes("1"));
  files.tree.newSymlink(files.find(AT_FDCWD, "/out/l", false), "/out/l");
  const open = (path: string, flags: number) => files.open(AT_FDCWD, path, flags, 0o666);
  fails(() => open("/out/a", O_CREAT | O_EXCL), Errno.EEXIST);
  fails(() => open("/out/a", O_DIRECTORY), Errno.ENOTDIR);
  fails(() => open("/out", O_WRONLY), Errno.EISDIR);
  fails(() => open("/out/l", O_RDONLY), Errno.ELOOP);
  fails(() => open("/out/none", O_RDONLY), Errno.ENOENT);
  fails(() => open("/out/none/x", O_CREAT), Errno.ENOENT);
  fails(() => open("/out/a/x", O_RDONLY), Errno.ENOTDIR);
  fails(() => open("/out/" + "a".repeat(256), O_CREAT), Errno.ENAMETOOLONG);
  fails(() => open("/" + "a/".repeat(2048), O_CREAT), Errno.ENAMETOOLONG);
  fails(() => open("/out/\xff", O_CREAT), Errno.EILSEQ);
  open("/out/a", O_WRONLY | O_TRUNC);
  assertEquals(files.readFile("/out/a").length, 0);
});

Deno.test("a sandbox has at most 256 descriptors, and the lowest free one is taken", () => {
  const { files } = system();
  const open = () => files.open(AT_FDCWD, "/dev/null", O_RDONLY, 0);
  assertEquals(open(), 3);
  for (let fd = 4; fd < 256; fd++) open();
  fails(open, Errno.EMFILE);
  files.openFiles.close(17);
  assertEquals(open(), 17);
});

Deno.test("a directory is listed as it was when reading began, without what was removed since", () => {
  const { files } = system();
  for (const name of ["a", "b", "c"]) files.writeFile(`/out/${name}`, bytes(""));
  const fd = files.open(AT_FDCWD, "/out", O_RDONLY, 0);
  const names = (count: number) => files.openFiles.listDirectory(fd, count).map(({ name }) => name);
  assertEquals(names(3), [".", "..", "a"]);
  files.tree.unlink(files.find(AT_FDCWD, "/out/b", false));
  files.writeFile("/out/d", bytes(""));
  assertEquals(names(9), ["c"]);
  files.openFiles.seek(fd, 0n, 0);
  assertEquals(names(9), [".", "..", "a", "c", "d"]);
});

Deno.test("a directory cannot be moved into itself", () => {
  const { files } = system();
  files.makeDirectory(AT_FDCWD, "/out/a", 0o755);
  const target = files.find(AT_FDCWD, "/out/a/b", false);
  fails(() => files.tree.rename(files.find(AT_FDCWD, "/out/a", false), target), Errno.EINVAL);
});

Deno.test("what changed under a folder since a marker includes files that were moved there", () => {
  const { files } = system();
  files.writeFile("/out/old", bytes("1"));
  files.writeFile("/tmp/made/x", bytes("22"));
  const marker = files.generation;
  files.tree.rename(files.find(AT_FDCWD, "/tmp/made", false), files.find(AT_FDCWD, "/out/made", false));
  files.writeFile("/out/new", bytes("333"));
  assertEquals(files.changedUnder("/out", marker), [{ path: "/out/made/x", size: 2 }, { path: "/out/new", size: 3 }]);
});

Deno.test("raw output is passed on up to its cap, random devices give bytes, stdin is at its end", () => {
  const { files, output } = system();
  files.openFiles.write(1, bytes("hello"));
  files.openFiles.write(2, new Uint8Array(70_000));
  files.openFiles.write(2, bytes("more"));
  assertEquals([output[0], output.length], ["1:hello", 2]);
  assertEquals(files.openFiles.read(files.open(AT_FDCWD, "/dev/urandom", O_RDONLY, 0), 2).toHex(), "0707");
  assertEquals(files.openFiles.read(0, 10).length, 0);
});

Deno.test("byte strings and text are converted both ways", () => {
  assertEquals(utf8ByteString("é"), "\xc3\xa9");
  assertEquals(utf8ByteString("\ud800"), undefined);
  assertEquals(toByteString(new Uint8Array(20_000).fill(255)), "\xff".repeat(20_000));
});
