/** Error numbers as the guest's C library knows them (WASI's), and the sentences that the host's user reads. */

/** Numbers by name. */
export const Errno = {
  EACCES: 2,
  EBADF: 8,
  EBUSY: 10,
  EEXIST: 20,
  EFAULT: 21,
  EILSEQ: 25,
  EINVAL: 28,
  EISDIR: 31,
  ELOOP: 32,
  EMFILE: 33,
  ENAMETOOLONG: 37,
  ENOENT: 44,
  ENOSPC: 51,
  ENOSYS: 52,
  ENOTDIR: 54,
  ENOTEMPTY: 55,
  ENOTTY: 59,
  EOVERFLOW: 61,
  EPERM: 63,
  ERANGE: 68,
  EROFS: 69,
  ESPIPE: 70,
  EOPNOTSUPP: 138,
} as const;

/** One of the numbers. */
export type ErrnoNumber = (typeof Errno)[keyof typeof Errno];

const TEXTS: Readonly<Record<ErrnoNumber, string>> = {
  [Errno.EACCES]: "permission denied",
  [Errno.EBADF]: "bad file descriptor",
  [Errno.EBUSY]: "this folder belongs to the sandbox and stays",
  [Errno.EEXIST]: "file exists",
  [Errno.EFAULT]: "bad address",
  [Errno.EILSEQ]: "the name is not UTF-8",
  [Errno.EINVAL]: "invalid argument",
  [Errno.EISDIR]: "is a directory",
  [Errno.ELOOP]: "too many symbolic links",
  [Errno.EMFILE]: "too many open files",
  [Errno.ENAMETOOLONG]: "name too long",
  [Errno.ENOENT]: "no such file or directory",
  [Errno.ENOSPC]: "no space left: the sandbox's limit on files or file bytes is reached",
  [Errno.ENOSYS]: "not implemented",
  [Errno.ENOTDIR]: "not a directory",
  [Errno.ENOTEMPTY]: "directory not empty",
  [Errno.ENOTTY]: "not a terminal",
  [Errno.EOVERFLOW]: "value too large",
  [Errno.EPERM]: "operation not permitted",
  [Errno.ERANGE]: "result does not fit",
  [Errno.EROFS]: "read-only: this file or folder is part of the image",
  [Errno.ESPIPE]: "cannot seek",
  [Errno.EOPNOTSUPP]: "not supported",
};

/** A file operation that failed. Its message is the sentence for the host's user. */
export class FsError extends Error {
  constructor(readonly errno: ErrnoNumber) {
    super(TEXTS[errno]);
  }
}
