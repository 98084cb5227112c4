#!/usr/bin/env node
// Not a static import, whose failure Node would print with a stack trace: too few open files, files that are not there.
const { main } = await import('../dist/cli/main.js').catch((error) => {
  const [why] = String(error.message).split('\n');
  const hint = 'raise the limit of open files (ulimit -n), or install wanq again';
  process.stderr.write(`wanq: its own files cannot be loaded: ${why}: ${hint} [IO_FAILED]\n`);
  process.exit(5);
});

process.exitCode = await main(process.argv.slice(2), process);
