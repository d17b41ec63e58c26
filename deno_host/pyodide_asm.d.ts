/** What this host uses of Pyodide's own `pyodide.asm.mjs`, which is not part of this folder (docs/design/deno.md). */

/** An entry of the memory file system, or of another one that is mounted in it. */
export interface PyodideNode {
  readonly mode: number;
  readonly parent: PyodideNode;
  readonly node_ops: object;
  /** Of folders of the memory file system. */
  readonly contents?: Record<string, PyodideNode> | Uint8Array;
  readonly usedBytes?: number;
}

/** An open file. */
export interface PyodideStream {
  readonly node: PyodideNode;
}

/** Emscripten's file system. */
export interface PyodideFs {
  readonly ErrnoError: new (errno: number) => Error & { readonly errno: number };
  readonly root: PyodideNode;
  readonly filesystems: { readonly MEMFS: { ops_table: MemoryOperations } };
  isFile(mode: number): boolean;
  isDir(mode: number): boolean;
  isLink(mode: number): boolean;
  cwd(): string;
  chdir(path: string): void;
  mkdirTree(path: string): void;
  mkdir(path: string): void;
  rmdir(path: string): void;
  analyzePath(path: string): { readonly exists: boolean };
  lookupPath(path: string, options: { follow: boolean }): { readonly node: PyodideNode };
  readFile(path: string): Uint8Array;
  writeFile(path: string, data: Uint8Array, options?: { readonly canOwn: boolean }): void;
}

type Write = (
  stream: PyodideStream,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
  canOwn?: boolean,
) => number;

/** The functions that all nodes of the memory file system share. */
export interface MemoryOperations {
  readonly dir: {
    readonly node: {
      mknod: (parent: PyodideNode, name: string, mode: number, dev: number) => PyodideNode;
      symlink: (parent: PyodideNode, name: string, target: string) => PyodideNode;
      rename: (node: PyodideNode, folder: PyodideNode, name: string) => void;
    };
  };
  readonly file: {
    readonly node: { setattr: (node: PyodideNode, attributes: { readonly size?: number }) => void };
    readonly stream: { write: Write };
  };
}

/** Emscripten's module after it was started. */
export interface PyodideModule {
  readonly FS: PyodideFs;
  readonly ENV: Record<string, string>;
  readonly HEAPU8: Uint8Array;
  readonly HEAPU32: Uint32Array;
  readonly _Py_Version: number;
}

/** Settings for the module. */
export interface PyodideSettings {
  readonly [name: string]: unknown;
}

/** Start Emscripten's module. */
export default function createPyodideModule(settings: PyodideSettings): Promise<PyodideModule>;
