type Yaml = string | Yaml[] | { [key: string]: Yaml };

/** The YAML that the workflows of this repository are written in: block mappings and sequences, scalars of one line, and `|`. Throws on anything else. */
export function parseYaml(text: string): Yaml {
  const lines = text.split('\n').filter((line) => !/^\s*(#|$)/.test(line));
  const parser = new Parser(lines);
  const value = parser.block(0);
  if (!parser.done) throw new Error(`cannot read ${parser.line}`);
  return value;
}

class Parser {
  readonly #lines: string[];
  #at = 0;

  constructor(lines: string[]) {
    this.#lines = lines;
  }

  get done(): boolean {
    return this.#at >= this.#lines.length;
  }

  get line(): string {
    return this.#lines[this.#at] ?? '';
  }

  get #indent(): number {
    return this.done ? -1 : this.line.search(/\S/);
  }

  block(indent: number): Yaml {
    return this.line.slice(indent).startsWith('- ') ? this.#sequence(indent) : this.#mapping(indent);
  }

  #sequence(indent: number): Yaml[] {
    const items: Yaml[] = [];
    while (this.#indent === indent && this.line.slice(indent).startsWith('- ')) {
      const rest = this.line.slice(indent + 2);
      if (/^[\w-]+:( |$)/.test(rest)) {
        this.#lines[this.#at] = `${' '.repeat(indent + 2)}${rest}`;
        items.push(this.#mapping(indent + 2));
      } else {
        this.#at++;
        items.push(scalar(rest));
      }
    }
    return items;
  }

  #mapping(indent: number): Record<string, Yaml> {
    const map: Record<string, Yaml> = {};
    while (this.#indent === indent) {
      const [, key, rest = ''] = this.line.slice(indent).match(/^([\w-]+):(?: (.*))?$/) ?? [];
      if (key === undefined) throw new Error(`cannot read ${this.line}`);
      if (key in map) throw new Error(`${key} comes twice`);
      this.#at++;
      if (rest === '|') map[key] = this.#literal(indent);
      else if (rest !== '') map[key] = scalar(rest);
      else if (this.#indent > indent) map[key] = this.block(this.#indent);
      else map[key] = '';
    }
    return map;
  }

  #literal(indent: number): string {
    const lines: string[] = [];
    const inner = this.#indent;
    while (!this.done && this.#indent > indent) {
      lines.push(this.line.slice(inner));
      this.#at++;
    }
    return `${lines.join('\n')}\n`;
  }
}

function scalar(text: string): string {
  const [, quoted] = text.match(/^'((?:[^']|'')*)'\s*(?:#.*)?$/) ?? [];
  if (quoted !== undefined) return quoted.replaceAll("''", "'");
  if (/^["[{&*!>%@]/.test(text) || text.includes(': ')) throw new Error(`cannot read ${text}`);
  return text.replace(/\s+#.*$/, '').trim();
}
