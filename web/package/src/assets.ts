/** Fetches the files of a model's folder, reports progress, and unpacks files that are stored compressed. */

/** Bytes received so far, and in all. */
export interface Progress {
  readonly loaded: number;
  readonly total: number;
}

/** Fetches files of one folder and sums their progress. */
export class Assets {
  private readonly received = new Map<string, number>();
  private readonly expected = new Map<string, number>();

  /** @param base the address of the folder, with a slash at its end */
  constructor(
    readonly base: string,
    private readonly onProgress: (progress: Progress) => void = () => undefined,
  ) {}

  /** Announces files before they are fetched, so that the total does not grow. */
  expect(bytes: Readonly<Record<string, number>>, names: readonly string[]): void {
    for (const name of names) this.expected.set(name, bytes[name] ?? 0);
  }

  address(name: string): string {
    return new URL(name, this.base).href;
  }

  async json<Part>(name: string): Promise<Part> {
    return (await (await this.response(name)).json()) as Part;
  }

  /** A file's content; `.gz` files are unpacked, unless the server did it. */
  async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.response(name);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let length = 0;
    const reader = response.body?.getReader();
    if (!reader) return unpacked(new Uint8Array(await response.arrayBuffer()));
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value as Uint8Array<ArrayBuffer>);
      length += value.length;
      this.report(name, length);
    }
    const whole = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return unpacked(whole);
  }

  private async response(name: string): Promise<Response> {
    const response = await fetch(this.address(name));
    if (!response.ok) throw new Error(`${name}: the server answered ${response.status}; expected it in ${this.base}`);
    return response;
  }

  private report(name: string, length: number): void {
    const expected = this.expected.get(name) ?? 0;
    this.received.set(name, expected > 0 ? Math.min(length, expected) : length); // servers may unpack
    const sum = (sizes: Iterable<number>) => [...sizes].reduce((total, size) => total + size, 0);
    this.onProgress({ loaded: sum(this.received.values()), total: Math.max(sum(this.expected.values()), sum(this.received.values())) });
  }
}

async function unpacked(content: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  if (content[0] !== 0x1f || content[1] !== 0x8b) return content;
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
