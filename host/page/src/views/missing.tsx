// An address that leads nowhere.
import type { JSX } from "preact";
import { Empty } from "../components/empty";
import { links } from "../state/route";
import { useTitle } from "./frame/title";

export const MissingView = (): JSX.Element => {
  useTitle("Nothing here");
  return (
    <Empty title="There is nothing at this address">
      <p>
        <a href={links.labs}>All labs</a>
      </p>
    </Empty>
  );
};
