interface ReportHeader {
  readonly glibcVersionRuntime?: string;
}

/** What Node tells of its process: libc, limits. Without the interfaces of the network, whose names take long to be found. */
export function processReport(): Readonly<Record<string, unknown>> {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  try {
    const found = report.getReport() as unknown;
    return (typeof found === 'string' ? JSON.parse(found) : found) as Record<string, unknown>;
  } finally {
    report.excludeNetwork = before ?? false;
  }
}

/** @returns the C library of a Linux system, `glibc 2.36`; undefined elsewhere */
export function libc(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const { glibcVersionRuntime } = processReport().header as ReportHeader;
  return glibcVersionRuntime === undefined ? 'no glibc (musl?)' : `glibc ${glibcVersionRuntime}`;
}
