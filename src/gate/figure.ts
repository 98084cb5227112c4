/** A figure for a line of text, with the decimals that show it. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  return value === 0 || Math.abs(value) >= 0.001 ? value.toFixed(3) : value.toPrecision(2);
}

/** @returns the figure with its unit */
export function quantity(value: number, unit: string): string {
  return unit === '' ? figure(value) : `${figure(value)} ${unit}`;
}
