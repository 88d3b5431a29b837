// What went wrong, in place: the sentence of the server, its code, and a way to be done with it.
import type { JSX } from "preact";
import { spoken, type Problem } from "../api/problem";
import { Button } from "./button";
import { Icon } from "./icon";

interface Props {
  problem: Problem;
  /** What was tried, such as `Deploying`. */
  what?: string;
  onDismiss?: () => void;
  onRetry?: () => void;
}

export const Trouble = ({ problem, what, onDismiss, onRetry }: Props): JSX.Element => (
  <div class="trouble" role="alert">
    <Icon name="warning" />
    <p>
      {what && <strong>{what} failed. </strong>}
      {spoken(problem)}
      {problem.code !== null && <span class="code">code {problem.code}</span>}
    </p>
    {onRetry && (
      <Button small onClick={onRetry}>
        Try again
      </Button>
    )}
    {onDismiss && <Button kind="quiet" small icon="close" label="Dismiss" onClick={onDismiss} />}
  </div>
);
