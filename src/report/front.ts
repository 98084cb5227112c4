/** Items that no other beats: each other one costs more or is worse, or is the same in both. In the order in which they are. */
export function paretoFront<T>(items: readonly T[], cost: (item: T) => number, quality: (item: T) => number): T[] {
  return items.filter(
    (item) =>
      !items.some(
        (other) =>
          cost(other) <= cost(item) &&
          quality(other) >= quality(item) &&
          (cost(other) < cost(item) || quality(other) > quality(item)),
      ),
  );
}
