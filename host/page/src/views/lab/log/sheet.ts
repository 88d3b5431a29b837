// A log on the page, by the browser's own means and without a framework: tens of thousands of lines in blocks that the
// browser lays out only when they are looked at, and that its search finds all the same.
import { level, plain } from "./text";

const BLOCK = 200;
/** The server keeps about a megabyte of each log; what has come since is added to that, up to this many lines. */
export const MOST_LINES = 30_000;

export class Sheet {
  #blocks: HTMLElement[] = [];
  #counts: number[] = [];
  #total = 0;
  #dropped = 0;
  #waiting: string[] = [];
  #frame = 0;
  readonly #note: HTMLElement;

  constructor(
    readonly root: HTMLElement,
    /** Called after lines have been written. */
    readonly written: (added: number) => void,
  ) {
    this.#note = document.createElement("p");
    this.#note.className = "log-note";
    this.#note.hidden = true;
    root.append(this.#note);
  }

  get total(): number {
    return this.#total;
  }

  clear(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#waiting = [];
    for (const block of this.#blocks) block.remove();
    this.#blocks = [];
    this.#counts = [];
    this.#total = 0;
    this.#dropped = 0;
    this.#note.hidden = true;
  }

  /** Lines are written once for each frame, however fast they come. */
  add(lines: readonly string[]): void {
    this.#waiting.push(...lines.slice(-MOST_LINES));
    this.#frame ||= requestAnimationFrame(() => this.#write());
    // No frames are drawn while nobody looks; nothing may pile up meanwhile.
    if (this.#waiting.length > MOST_LINES) this.#write();
  }

  /** Everything that is shown, for saving it. */
  text(): string {
    return this.#blocks.map((block) => block.textContent ?? "").join("");
  }

  #write(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const lines = this.#waiting;
    this.#waiting = [];
    let block = this.#blocks.at(-1);
    let count = this.#counts.at(-1) ?? BLOCK;
    for (const line of lines) {
      if (!block || count >= BLOCK) {
        block = document.createElement("div");
        block.className = "log-block";
        this.root.append(block);
        this.#blocks.push(block);
        this.#counts.push(0);
        count = 0;
      }
      const text = plain(line);
      const kind = level(text);
      if (kind) {
        const span = document.createElement("span");
        span.className = `log-${kind}`;
        span.textContent = text;
        block.append(span, "\n");
      } else {
        const last = block.lastChild;
        // One long text is much cheaper than many short ones.
        if (last instanceof Text) last.appendData(`${text}\n`);
        else block.append(`${text}\n`);
      }
      count += 1;
      this.#counts[this.#counts.length - 1] = count;
    }
    this.#total += lines.length;
    this.#trim();
    this.written(lines.length);
  }

  #trim(): void {
    while (this.#total - this.#dropped > MOST_LINES && this.#blocks.length > 1) {
      this.#blocks.shift()?.remove();
      this.#dropped += this.#counts.shift() ?? 0;
    }
    if (this.#dropped > 0) {
      this.#note.hidden = false;
      this.#note.textContent = `${this.#dropped} earlier lines are not shown here.`;
    }
  }
}
