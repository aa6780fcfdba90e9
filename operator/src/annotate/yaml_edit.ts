// SPDX-License-Identifier: Apache-2.0
// Pairs put into and taken out of the maps of a YAML text by splicing it, so that every byte around them stays: comments, order, indentation,
// quotes. What the pairs mean is not known here.
import { isAlias, isCollection, isMap, isPair, isScalar, visit, type Document, type YAMLMap } from 'yaml';

/** Replaces text[from, to). */
export interface Splice {
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

/** Pairs to set; a value is text, or pairs of its own. */
export interface Patch {
  readonly [key: string]: string | Patch;
}

/** A map that can't be changed without changing something else. */
export class SharedMap extends Error {}

interface Ranged {
  readonly range?: readonly [number, number, number] | null;
}

interface PlacedPair {
  readonly key: string;
  readonly keyNode: Ranged;
  readonly value: unknown;
  /** Where the pair's own text ends, comments behind it not counted. */
  readonly end: number;
}

function rangeOf(node: unknown): readonly [number, number, number] {
  const range = (node as Ranged | null)?.range;
  if (range === undefined || range === null) {
    throw new Error('a node that was parsed has no place in the text');
  }
  return range;
}

/** Where a node's text ends: that of a block collection is that of its last entry, since its own range takes the comments behind it along. */
function endOf(node: unknown): number {
  if (isCollection(node) && node.flow !== true && node.items.length > 0) {
    const last = node.items.at(-1);
    return isPair(last) ? endOf(last.value ?? last.key) : endOf(last);
  }
  return rangeOf(node)[1];
}

function pairsOf(map: YAMLMap): PlacedPair[] {
  return map.items.map((pair) => {
    const key = isScalar(pair.key) ? String(pair.key.value) : '';
    return { key, keyNode: pair.key as Ranged, value: pair.value, end: endOf(pair.value ?? pair.key) };
  });
}

/** A scalar that reads back as this text in any schema. */
function quoted(text: string): string {
  return JSON.stringify(text);
}

/** A key as people write it, unless it would read as something else. */
function plainKey(key: string): string {
  return /^[A-Za-z_][-\w./]*$/.test(key) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(key)
    ? key
    : quoted(key);
}

function flowText(patch: Patch, quoteKeys: boolean): string {
  const pairs = Object.entries(patch).map(
    ([key, value]) =>
      `${quoteKeys ? quoted(key) : plainKey(key)}: ${typeof value === 'string' ? quoted(value) : flowText(value, quoteKeys)}`,
  );
  return `{${quoteKeys ? '' : ' '}${pairs.join(', ')}${quoteKeys ? '' : ' '}}`;
}

function blockLines(patch: Patch, indent: string, step: string): string[] {
  return Object.entries(patch).flatMap(([key, value]) =>
    typeof value === 'string'
      ? [`${indent}${plainKey(key)}: ${quoted(value)}`]
      : [`${indent}${plainKey(key)}:`, ...blockLines(value, indent + step, step)],
  );
}

function endOfLine(text: string, at: number): number {
  if (at > 0 && text[at - 1] === '\n') {
    return at; // a block scalar takes its last line end along
  }
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end + 1;
}

function startOfLine(text: string, at: number): number {
  return text.lastIndexOf('\n', at - 1) + 1;
}

/** Edits of one text; documents are those that were parsed from it. */
export class YamlEdit {
  private readonly splices: Splice[] = [];
  private readonly eol: string;

  constructor(private readonly text: string) {
    this.eol = text.includes('\r\n') ? '\r\n' : '\n';
  }

  /** The text with all edits. */
  result(): string {
    let at = 0;
    let edited = '';
    // Of two at one place the inner map's comes first: it was noted first, and sorting keeps that order.
    for (const { from, to, text } of this.splices.toSorted((a, b) => a.from - b.from)) {
      edited += this.text.slice(at, from) + text;
      at = to;
    }
    return edited + this.text.slice(at);
  }

  /** Sets pairs of a map and of maps in it. Throws SharedMap where an alias elsewhere would see the change. */
  merge(document: Document, map: YAMLMap, patch: Patch): void {
    const pairs = pairsOf(map);
    const missing: Record<string, string | Patch> = {};
    for (const [key, value] of Object.entries(patch)) {
      const pair = pairs.find((each) => each.key === key);
      if (pair === undefined) {
        missing[key] = value;
      } else if (typeof value !== 'string' && isMap(pair.value)) {
        this.requireOwn(document, pair.value, key);
        this.merge(document, pair.value, value);
      } else {
        this.replace(map, pair, value);
      }
    }
    if (Object.keys(missing).length > 0) {
      this.insert(map, pairs, missing);
    }
  }

  /** Takes pairs out of a map; comments above them stay. */
  remove(map: YAMLMap, keys: ReadonlySet<string>): void {
    const pairs = pairsOf(map);
    if (map.flow === true) {
      this.removeFromBraces(map, pairs, keys);
      return;
    }
    for (const [i, pair] of pairs.entries()) {
      if (!keys.has(pair.key)) {
        continue;
      }
      const start = rangeOf(pair.keyNode)[0];
      const lineStart = startOfLine(this.text, start);
      const next = pairs[i + 1];
      // Behind "- " the line is not the pair's alone: what follows takes its place.
      const alone = this.text.slice(lineStart, start).trim() === '';
      this.splices.push(
        alone || next === undefined
          ? { from: alone ? lineStart : start, to: endOfLine(this.text, pair.end), text: '' }
          : { from: start, to: rangeOf(next.keyNode)[0], text: '' },
      );
    }
  }

  /** With the commas: those behind the first ones, and those before the others. */
  private removeFromBraces(map: YAMLMap, pairs: readonly PlacedPair[], keys: ReadonlySet<string>): void {
    const [from, to] = rangeOf(map);
    const kept = pairs.findIndex(({ key }) => !keys.has(key));
    const first = pairs[kept];
    if (first === undefined) {
      this.splices.push({ from: from + 1, to: to - 1, text: '' });
      return;
    }
    if (kept > 0) {
      this.splices.push({ from: rangeOf(pairs[0]?.keyNode)[0], to: rangeOf(first.keyNode)[0], text: '' });
    }
    let before = first;
    for (const pair of pairs.slice(kept + 1)) {
      if (keys.has(pair.key)) {
        this.splices.push({ from: before.end, to: pair.end, text: '' });
      }
      before = pair;
    }
  }

  private requireOwn(document: Document, map: YAMLMap, key: string): void {
    const { anchor } = map;
    const referredTo = new Set<string>();
    visit(document, {
      Alias: (_, { source }) => {
        referredTo.add(source);
      },
    });
    if (anchor !== undefined && referredTo.has(anchor)) {
      throw new SharedMap(
        `${key} carries the anchor &${anchor}, and what refers to it would change too; write ${key} out where it is used`,
      );
    }
  }

  private replace(map: YAMLMap, pair: PlacedPair, value: string | Patch): void {
    if (isAlias(pair.value)) {
      throw new SharedMap(
        `${pair.key} is *${pair.value.source}, a map that stands elsewhere and would change too; write ${pair.key} out`,
      );
    }
    if (isScalar(pair.value) && pair.value.anchor !== undefined) {
      throw new SharedMap(`${pair.key} carries the anchor &${pair.value.anchor}; write its value out`);
    }
    const quoteKeys = map.flow === true && this.text[rangeOf(pair.keyNode)[0]] === '"';
    const text = typeof value === 'string' ? quoted(value) : flowText(value, quoteKeys);
    if (pair.value === null || pair.value === undefined) {
      this.splices.push({ from: pair.end, to: pair.end, text: `: ${text}` }); // "{ key }"
      return;
    }
    const [from, to] = rangeOf(pair.value);
    const last = this.text.slice(from, to).endsWith('\n') ? this.eol : '';
    this.splices.push({ from, to, text: `${this.text[from - 1] === ':' ? ' ' : ''}${text}${last}` });
  }

  private insert(map: YAMLMap, pairs: readonly PlacedPair[], missing: Patch): void {
    const first = pairs[0];
    const last = pairs.at(-1);
    if (map.flow === true || first === undefined || last === undefined) {
      const [from, to] = rangeOf(map);
      const quoteKeys =
        first === undefined
          ? this.text.trimStart().startsWith('{"')
          : this.text[rangeOf(first.keyNode)[0]] === '"';
      const inside = flowText(missing, quoteKeys).slice(1, -1);
      this.splices.push(
        last === undefined
          ? { from, to, text: `{${inside}}` }
          : { from: last.end, to: last.end, text: `, ${inside.trim()}` },
      );
      return;
    }
    const start = rangeOf(first.keyNode)[0];
    const indent = ' '.repeat(start - startOfLine(this.text, start));
    const at = endOfLine(this.text, last.end);
    const lines = blockLines(missing, indent, '  ').join(this.eol);
    const before = at > 0 && this.text[at - 1] !== '\n' ? this.eol : '';
    this.splices.push({ from: at, to: at, text: `${before}${lines}${before === '' ? this.eol : ''}` });
  }
}
