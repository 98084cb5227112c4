/** A size for a message, rounded up: what is needed must not read as less than it is. */
export function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
