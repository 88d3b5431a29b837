// A field of a form: its label, what it is for, and what is wrong with what was filled in.
import type { ComponentChildren, JSX } from "preact";
import { useId } from "preact/hooks";

interface Props {
  label: string;
  hint?: ComponentChildren;
  children: (id: string, described: string | undefined) => ComponentChildren;
}

export const Field = ({ label, hint, children }: Props): JSX.Element => {
  const id = useId();
  const hintId = hint ? `${id}-hint` : undefined;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id, hintId)}
      {hint && (
        <p class="hint" id={hintId}>
          {hint}
        </p>
      )}
    </div>
  );
};
