// The drawing of a topology, and the details of the node that is looked at. Fetched when the first lab is opened.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Button } from "../../../components/button";
import { Empty, Loading } from "../../../components/empty";
import { bounds, draw, type Drawing, type Point } from "../../../topology/drawing";
import { nodesOf, type ShownNode } from "../members";
import { useScope } from "../scope";
import { Inspector } from "./inspector";
import { Lines } from "./lines";
import { Card } from "./card";
import { neighbour } from "./steps";
import { useView } from "./use-view";

const Picture = ({ drawing }: { drawing: Drawing }): JSX.Element => {
  const scope = useScope();
  const { selected, lab } = scope;
  const stage = useRef<HTMLDivElement>(null);
  /** Cards that somebody has put elsewhere, for this visit. */
  const moved = useSignal<ReadonlyMap<string, Point>>(new Map());
  useEffect(() => {
    moved.value = new Map();
  }, [drawing]);
  const points = new Map([...drawing.points, ...[...moved.value].filter(([name]) => drawing.points.has(name))]);
  const lines = draw(drawing.graph.links, points, drawing.sizes);
  // What was dragged doesn't make everything else jump.
  const frame = useMemo(
    () => bounds(drawing.points, drawing.sizes, draw(drawing.graph.links, drawing.points, drawing.sizes)),
    [drawing],
  );
  const view = useView(stage, frame);
  const nodes = nodesOf(scope);
  const byName = new Map<string, ShownNode>(nodes.map((node) => [node.name, node]));
  const names = drawing.graph.nodes.map((node) => node.name);
  const stop = selected.value !== null && drawing.points.has(selected.value) ? selected.value : names[0];
  const focus = (name: string): void => {
    selected.value = name;
    stage.current?.querySelector<SVGElement>(`[data-node="${CSS.escape(name)}"]`)?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const from = (event.target as Element).closest("[data-node]")?.getAttribute("data-node");
    if (event.key === "+" || event.key === "=") view.zoom(1.25);
    else if (event.key === "-") view.zoom(0.8);
    else if (event.key === "0") view.fit();
    else if (event.key === "Escape" && selected.value !== null) selected.value = null;
    else if (event.key.startsWith("Arrow") && from) {
      const to = neighbour(points, from, event.key);
      if (to) focus(to);
    } else return;
    event.preventDefault();
  };
  const { box, scale } = view;
  return (
    <section class="stage" aria-label={`Topology of ${lab.name}`} ref={stage}>
      {/* The keys are those of the focusable nodes within. */}
      <svg
        class="graph"
        viewBox={`${box.x} ${box.y} ${box.width} ${box.height}`}
        role="group"
        aria-label={`${names.length} nodes, ${lines.length} links. Arrow keys go from node to node.`}
        onKeyDown={onKeyDown}
        onPointerDown={view.pan}
        onClick={(event) => {
          if (event.target === event.currentTarget) selected.value = null;
        }}
      >
        <Lines links={drawing.graph.links} lines={lines} nodes={byName} selected={selected.value} compact={drawing.compact} />
        {names.map((name) => {
          const node = byName.get(name);
          const point = points.get(name);
          const size = drawing.sizes.get(name);
          if (!node || !point || !size) return null;
          return (
            <Card
              key={name}
              node={node}
              at={point}
              size={size}
              scale={scale}
              compact={drawing.compact}
              chosen={selected.value === name}
              tabIndex={name === stop ? 0 : -1}
              onChoose={() => (selected.value = selected.value === name ? null : name)}
              onMove={(to) => (moved.value = new Map(moved.value).set(name, to))}
            />
          );
        })}
      </svg>
      <div class="stage-tools" role="group" aria-label="Size of the drawing">
        <Button kind="quiet" small icon="plus" label="Larger" onClick={() => view.zoom(1.25)} />
        <Button kind="quiet" small icon="minus" label="Smaller" onClick={() => view.zoom(0.8)} />
        <Button
          kind="quiet"
          small
          icon="fit"
          label="All of it, as laid out"
          onClick={() => {
            moved.value = new Map();
            view.fit();
          }}
        />
      </div>
      <Inspector
        graph={drawing.graph}
        node={byName.get(selected.value ?? "")}
        above={(points.get(selected.value ?? "")?.y ?? 0) > box.y + box.height / 2}
      />
    </section>
  );
};

export const Stage = (): JSX.Element => {
  const { drawing } = useScope();
  if (drawing) return <Picture drawing={drawing} />;
  return (
    <section class="stage" aria-label="Topology">
      {drawing === undefined ? (
        <Loading what="Drawing the topology…" />
      ) : (
        <Empty title="Nothing to draw">
          <p>The topology has no nodes, or is written in a way that this page doesn't read. The lab works all the same.</p>
        </Empty>
      )}
    </section>
  );
};
