/** A fault of the host's side or of our own: a bad frame of the driver, assets that do not fit. It ends the process. */
export class HostError extends Error {}
