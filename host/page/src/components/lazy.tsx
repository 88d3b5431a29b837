// Parts that are fetched when they are needed.
import { useSignal } from "@preact/signals";
import type { ComponentType, JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Problem } from "../api/problem";
import { Loading } from "./empty";
import { Trouble } from "./trouble";

/** A component that is fetched the first time that it is shown. */
export const lazy = <P extends object>(what: string, load: () => Promise<ComponentType<P>>): ComponentType<P> => {
  let loaded: ComponentType<P> | null = null;
  return (props: P): JSX.Element => {
    const here = useSignal(loaded);
    const failed = useSignal(false);
    useEffect(() => {
      if (loaded) return;
      load().then(
        (component) => (here.value = loaded = component),
        () => (failed.value = true),
      );
    }, []);
    const Component = here.value;
    if (Component) return <Component {...props} />;
    if (failed.value) {
      // After an update of the server, the page that is open asks for files that are gone.
      const problem = new Problem(`${what} couldn't be fetched; the server may have been updated, or be away`, null);
      return <Trouble problem={problem} onRetry={() => location.reload()} />;
    }
    return <Loading what={`Fetching ${what.toLowerCase()}…`} />;
  };
};
