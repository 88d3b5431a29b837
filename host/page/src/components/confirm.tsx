// Asking before something that can't be taken back.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { Button } from "./button";
import { Dialog } from "./dialog";

interface Question {
  title: string;
  text: string;
  /** What is pressed to go on, such as `Destroy`. */
  action: string;
  answer: (yes: boolean) => void;
}

const asked = signal<Question | null>(null);

/** Whether somebody wants it. */
export const confirmed = (title: string, text: string, action: string): Promise<boolean> =>
  new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      asked.value = null;
      resolve(yes);
    };
    asked.value = { title, text, action, answer };
  });

export const Confirm = (): JSX.Element | null => {
  const question = asked.value;
  if (!question) return null;
  return (
    <Dialog title={question.title} onClose={() => question.answer(false)}>
      <p>{question.text}</p>
      <div class="dialog-actions">
        <Button onClick={() => question.answer(false)}>Cancel</Button>
        <Button kind="danger" onClick={() => question.answer(true)}>
          {question.action}
        </Button>
      </div>
    </Dialog>
  );
};
