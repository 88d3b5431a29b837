// What went wrong, in the form in which the page shows it, whichever way it was asked for.

/** An answer other than a payload, over REST or as an acknowledgement. */
export class Problem extends Error {
  /**
   * @param code the server's, or null where the server wasn't reached
   * @param status of HTTP; 0: none
   */
  constructor(
    message: string,
    readonly code: number | null,
    readonly status = 0,
  ) {
    super(message);
    this.name = "Problem";
  }

  /** The thing is not there, or not there any more. */
  get isMissing(): boolean {
    return this.status === 404 || this.code === 5005;
  }
}

const sentence = (text: string): string => {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
};

/** Anything that was thrown, as a problem with a sentence. */
export const asProblem = (error: unknown): Problem => {
  if (error instanceof Problem) return error;
  return new Problem(error instanceof Error ? error.message : String(error), null);
};

/** What is shown to people: the sentence, and the code beside it. */
export const spoken = (problem: Problem): string => sentence(problem.message);
