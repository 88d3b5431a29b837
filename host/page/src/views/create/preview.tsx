// The topology of a new lab as it will look, while it is being written.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { useDrawing } from "../../state/drawings";

/** After so long without a key, it is drawn anew, in milliseconds. */
const PAUSE = 250;
/** About the size that it is drawn in, in pixels. */
const [WIDE, HIGH] = [340, 210];

const Picture = ({ definition }: { definition: string }): JSX.Element => {
  const drawing = useDrawing(definition).value;
  if (!drawing) {
    const said = definition.trim() === "" ? "The topology is drawn here." : "Nothing to draw yet.";
    return <p class="hint">{drawing === undefined && definition.trim() !== "" ? "" : said}</p>;
  }
  const points = [...drawing.points.values()];
  const left = Math.min(...points.map(({ x }) => x)) - 90;
  const top = Math.min(...points.map(({ y }) => y)) - 40;
  const width = Math.max(...points.map(({ x }) => x)) + 90 - left;
  const height = Math.max(...points.map(({ y }) => y)) + 52 - top;
  const { nodes, links } = drawing.graph;
  // Letters and dots of the same size on the screen, however large the topology is.
  const unit = Math.max(width / WIDE, height / HIGH, 1);
  return (
    <>
      <svg class="preview-graph" font-size={11.5 * unit} viewBox={`${left} ${top} ${width} ${height}`} role="img" aria-label="Drawing of the topology">
        {links.map(({ a, b }, index) => {
          const from = drawing.points.get(a.node);
          const to = b && drawing.points.get(b.node);
          return from && to ? <line key={index} x1={from.x} y1={from.y} x2={to.x} y2={to.y} /> : null;
        })}
        {[...drawing.points].map(([name, { x, y }]) => (
          <g key={name} transform={`translate(${x} ${y})`}>
            <circle r={5.5 * unit} />
            <text y={19 * unit}>{name}</text>
          </g>
        ))}
      </svg>
      <p class="hint">
        {nodes.length} {nodes.length === 1 ? "node" : "nodes"}, {links.length} {links.length === 1 ? "link" : "links"}
      </p>
    </>
  );
};

export const Preview = ({ definition }: { definition: string }): JSX.Element => {
  const settled = useSignal(definition);
  useEffect(() => {
    const timer = setTimeout(() => (settled.value = definition), PAUSE);
    return () => clearTimeout(timer);
  }, [definition]);
  return (
    <div class="preview">
      <Picture key={settled.value} definition={settled.value} />
    </div>
  );
};
