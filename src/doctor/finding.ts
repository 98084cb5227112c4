/** ok: as it should be. note: wanq works, and this is worth knowing. problem: something of wanq does not work. */
export type Status = 'ok' | 'note' | 'problem';

/** What a check saw. */
export interface Finding {
  readonly check: string;
  readonly status: Status;
  /** What was seen. */
  readonly seen: string;
  /** How to mend it, as an imperative. */
  readonly mend?: string;
}

/** A finding as a check makes it: of the check itself, unless it names another thing. */
export type Seen = Omit<Finding, 'check'> & Partial<Pick<Finding, 'check'>>;

/** Where a check looks. */
export interface Place {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Working folder. */
  readonly cwd: string;
  readonly signal: AbortSignal;
}

/** Looks at one thing. What it throws becomes a problem, too. */
export interface Check {
  readonly name: string;
  look(place: Place): Promise<readonly Seen[]>;
}
