// Cutting what is pasted into pieces that a server takes, and never within a character.

/** UTF-16 units of a piece. */
export const PIECE = 16_384;

export const pieces = (text: string, size = PIECE): string[] => {
  const found: string[] = [];
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + size, text.length);
    const last = text.charCodeAt(to - 1);
    // The first half of a pair: the second comes with it.
    if (to < text.length && last >= 0xd800 && last <= 0xdbff) to += to - from > 1 ? -1 : 1;
    found.push(text.slice(from, to));
    from = to;
  }
  return found;
};
