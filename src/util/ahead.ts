/**
 * What `make` makes of each item, in order, with the next ones begun: while a result is used, they are under way.
 *
 * @param most results under way beside the one in use
 * @throws what `make` throws, in its item's turn
 */
export async function* ahead<T, R>(
  items: readonly T[],
  make: (item: T) => Promise<R>,
  most = 1,
): AsyncGenerator<R, undefined> {
  const begun: Promise<R>[] = [];
  let next = 0;
  const begin = (): void => {
    while (next < items.length && begun.length < most) {
      const making = make(items[next++] as T);
      // Its turn may never come.
      making.catch(() => {});
      begun.push(making);
    }
  };
  begin();
  for (let first = begun.shift(); first; first = begun.shift()) {
    const current = await first;
    begin();
    yield current;
  }
}
