// What is free for a new lab, where the operator has set limits; nothing is shown where there are none.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import * as requests from "../../api/requests";
import type { WireAmounts } from "../../api/wire";
import { bytes } from "../../components/amounts";

interface Amount {
  what: string;
  reserved: number;
  limit: number;
  show: (value: number) => string;
}

/** Those that are limited. */
const limited = (limits: WireAmounts<number | null>, reserved: WireAmounts<number>): Amount[] => {
  const plain = String;
  const all = [
    { what: "Labs", reserved: reserved.labs, limit: limits.labs, show: plain },
    { what: "Nodes", reserved: reserved.nodes, limit: limits.nodes, show: plain },
    { what: "Memory", reserved: reserved.memory, limit: limits.memory, show: bytes },
  ];
  return all.filter((each): each is Amount => each.limit !== null);
};

const Amounts = ({ title, amounts }: { title: string; amounts: readonly Amount[] }): JSX.Element => (
  <section aria-label={title}>
    <h2>{title}</h2>
    <dl>
      {amounts.map(({ what, reserved, limit, show }) => (
        <div key={what}>
          <dt>{what}</dt>
          <dd>
            <span>
              <strong>{show(Math.max(0, limit - reserved))}</strong> free of {show(limit)}
            </span>
            <meter
              min={0}
              max={limit}
              low={limit * 0.8}
              high={limit * 0.95}
              optimum={0}
              value={Math.min(reserved, limit)}
              aria-label={`${what} reserved, ${title}`}
            />
          </dd>
        </div>
      ))}
    </dl>
  </section>
);

export const Capacity = ({ collection }: { collection: string }): JSX.Element | null => {
  const found = useSignal<requests.Capacity | null>(null);
  useEffect(() => {
    // Whoever can't be told is told by the refusal, if there is one.
    requests.capacity().then(
      (said) => (found.value = said),
      () => {},
    );
  }, []);
  if (!found.value) return null;
  const all = limited(found.value.limits, found.value.reserved);
  const own = found.value.collections.find(({ name }) => name === collection);
  const ofOwn = own ? limited(own.limits, own.reserved) : [];
  if (all.length === 0 && ofOwn.length === 0) return null;
  return (
    <div class="capacity">
      {all.length > 0 && <Amounts title="On this server now" amounts={all} />}
      {ofOwn.length > 0 && <Amounts title={`In ${collection} now`} amounts={ofOwn} />}
    </div>
  );
};
