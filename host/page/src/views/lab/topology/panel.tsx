// What the lab is made of: facts, and the topology file as its author wrote it.
import type { JSX } from "preact";
import { useSignal } from "@preact/signals";
import { Button } from "../../../components/button";
import { precise } from "../../../state/time";
import { copy } from "../../../components/clipboard";
import { useScope } from "../scope";

export const TopologyPanel = (): JSX.Element => {
  const { lab } = useScope();
  const copied = useSignal(false);
  const facts: readonly (readonly [string, string | null | undefined])[] = [
    ["Instance", lab.instance?.name],
    ["Deployed", lab.instance && precise(lab.instance.deployed)],
    ["Start", precise(lab.start)],
    ["End", lab.end ? precise(lab.end) : "never by itself"],
    ["Lab", lab.id],
  ];
  return (
    <div class="definition">
      <dl class="facts">
        {facts
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      <div class="definition-head">
        <h2>Topology file</h2>
        <Button small icon={copied.value ? "check" : "copy"} onClick={() => void copy(lab.definition).then((done) => (copied.value = done))}>
          {copied.value ? "Copied" : "Copy"}
        </Button>
      </div>
      <pre class="code-block" tabIndex={0} aria-label="Topology file">
        {lab.definition}
      </pre>
    </div>
  );
};
