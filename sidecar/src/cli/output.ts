// SPDX-License-Identifier: Apache-2.0
// Text for people and for programs: tables, numbers, JSON lines. No content.

export type Cell = string | number | bigint;

/** Columns as wide as their widest cell; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => `${cell}`));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)));
  const right = head.map(
    (_, column) => rows.length > 0 && rows.every((row) => typeof row[column] !== 'string'),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) =>
          right[column] === true
            ? cell.padStart(widths[column] as number)
            : cell.padEnd(widths[column] as number),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** JSON of anything; bigints as numbers where they fit, as text where not. */
export function json(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    (_, each: unknown) =>
      typeof each === 'bigint'
        ? each >= BigInt(Number.MIN_SAFE_INTEGER) && each <= BigInt(Number.MAX_SAFE_INTEGER)
          ? Number(each)
          : each.toString()
        : each,
    indent,
  );
}

/** 1234567 as "1,234,567". */
export function grouped(value: number | bigint): string {
  return (typeof value === 'number' ? Math.round(value) : value).toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Three or so digits: 0.12, 4.56, 78.9, 1,234. */
export function short(value: number): string {
  if (value >= 1000) {
    return grouped(value);
  }
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

export function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

export interface Out {
  line(text: string): void;
  /** Replaces what the last frame wrote, on a terminal. */
  frame(text: string): void;
  readonly isTty: boolean;
}

/** Standard output. */
export function terminal(stream: NodeJS.WriteStream = process.stdout): Out {
  let height = 0;
  return {
    isTty: stream.isTTY,
    line: (text) => {
      stream.write(`${text}\n`);
    },
    frame: (text) => {
      if (!stream.isTTY) {
        stream.write(`${text}\n`);
        return;
      }
      const columns = stream.columns;
      const lines = text
        .split('\n')
        .slice(0, Math.max(stream.rows - 1, 1))
        .map((line) => line.slice(0, columns));
      // Up over the frame before, each line cleared behind its text, and what is left of a longer frame below.
      stream.write(
        `${height > 0 ? `\x1b[${height}A` : ''}${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`,
      );
      height = lines.length;
    },
  };
}
